"""The ingestion endpoints for JSON: how each decodes a request and words its response, in the fast lane and in REST."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingest.pipeline import Receipt
from ingest.rejected.inbox import rejected_inbox
from ingest.wire.batch import Batch, RequestRejected
from ingest.wire.compression import decompress
from ingest.wire.event import decode_events
from ingest.wire.snapshot import decode_snapshot
from ingest.wire.telemetry_json import (
    NumericPoint,
    decode_batch,
    decode_bulk,
    decode_numeric_batch,
    decode_numeric_bulk,
    decode_numeric_point,
    decode_single,
)
from rest.caller import Caller

MAX_BODY_SIZE = 16 * 1024 * 1024  # bytes, before and after decompression


@dataclass(frozen=True, slots=True)
class IngestEndpoint:
    """The decoders of an endpoint (body, device in the URL → points) and its response (receipt → body).

    `decode_numeric` decodes numeric points only and fails for any other body; not every endpoint has it.
    """

    decode: Callable[[bytes, str], Batch]
    response: Callable[[Receipt], dict[str, Any]]
    decode_numeric: Callable[[bytes, str], dict[str, list[NumericPoint]]] | None = None

    def read(self, body: bytes, device_id: str, sender: Caller) -> Batch:
        """Decode a body; a body that cannot be decoded is counted in the rejected inbox. Raises RequestRejected."""
        try:
            return self.decode(body, device_id)
        except RequestRejected as error:
            rejected_inbox().add_request(sender.name, device_id, error.detail)
            raise


def body_too_large() -> RequestRejected:
    """Return the rejection (413) of a body over the size limit."""
    return RequestRejected(f"the body is too large: at most {MAX_BODY_SIZE} bytes are accepted", 413)


def check_media_type(content_type: str) -> None:
    """Accept JSON only. Raises RequestRejected (415)."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise RequestRejected(f"Content-Type {kind!r:.60} is not supported: application/json is accepted", 415)


def decompress_body(body: bytes, content_encoding: str) -> bytes:
    """Return the body without its Content-Encoding. Raises RequestRejected."""
    coding = content_encoding.strip().lower()
    return body if coding in ("", "identity") else decompress(body, coding, MAX_BODY_SIZE)


def _point_response(receipt: Receipt) -> dict[str, Any]:
    """Return the response of PRD E1-US1."""
    return {
        "success": True,
        "message": "Data point ingested successfully",
        "device_id": receipt.groups[0].device_id,
        "metric_name": receipt.metric_name,
    }


def _bulk_response(receipt: Receipt) -> dict[str, Any]:
    results: dict[str, dict[str, Any]] = {}
    for group in receipt.groups:
        count = group.stop - group.start
        results[group.device_id] = {
            "success": True,
            "ingested_count": count,
            "failed_count": 0,
            "total_count": count,
            "errors": [],
        }
    for number, rejection in enumerate(receipt.rejected):
        device_id = receipt.groups[0].device_id if rejection.device_id is None else rejection.device_id
        empty = {"success": False, "ingested_count": 0, "failed_count": 0, "total_count": 0, "errors": []}
        result = results.setdefault(device_id, empty)
        result["failed_count"] += 1
        if number < receipt.undecoded:
            result["total_count"] += 1
        else:
            result["ingested_count"] -= 1
        result["success"] = result["ingested_count"] > 0
        result["errors"].append({"index": rejection.index, "field": rejection.field, "detail": rejection.detail})
    return receipt.as_json() | {"results": results}


ENDPOINTS = {
    "single": IngestEndpoint(decode_single, _point_response, decode_numeric_point),
    "batch": IngestEndpoint(
        lambda body, device_id: decode_batch(body, device_id, MAX_BODY_SIZE), Receipt.as_json, decode_numeric_batch
    ),
    "bulk": IngestEndpoint(lambda body, _: decode_bulk(body), _bulk_response, decode_numeric_bulk),
    "snapshot": IngestEndpoint(lambda body, _: decode_snapshot(body), Receipt.as_json),
    "events": IngestEndpoint(lambda body, _: decode_events(body), Receipt.as_json),
}
