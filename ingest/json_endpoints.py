"""The doors of the site's JSON and of other documents': how a request is read and how its answer looks, in the fast
lane and in REST.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingest.pipeline import Receipt
from ingest.rejected.inbox import inbox
from ingest.wire.batch import Batch, RequestRejected
from ingest.wire.compression import inflate
from ingest.wire.event import decode_events
from ingest.wire.snapshot import decode_snapshot
from ingest.wire.telemetry_json import (
    Plain,
    decode_batch,
    decode_bulk,
    decode_single,
    plain_batch,
    plain_bulk,
    plain_single,
)
from rest.caller import Caller

BODY_LIMIT = 16 * 1024 * 1024  # bytes, before and after decompression


@dataclass(frozen=True, slots=True)
class Door:
    """One way in: its decoders (body, device in the URL → what is in it) and its answer (receipt → body).

    `plain` reads numbers and nothing else, by device, and gives up on anything out of the ordinary; not every door
    has such a short way.
    """

    decode: Callable[[bytes, str], Batch]
    answer: Callable[[Receipt], dict[str, Any]]
    plain: Callable[[bytes, str], dict[str, list[Plain]]] | None = None

    def read(self, body: bytes, device_id: str, sender: Caller) -> Batch:
        """What is in a body. Raises RequestRejected, and has it counted that somebody sends what cannot be read."""
        try:
            return self.decode(body, device_id)
        except RequestRejected as refused:
            inbox().note_request(sender.name, device_id, refused.detail)
            raise


def check_media_type(content_type: str) -> None:
    """Only JSON is read here. Raises RequestRejected (415)."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise RequestRejected(f"Content-Type {kind!r:.60} is not read here: application/json is accepted", 415)


def unpack(body: bytes, content_encoding: str) -> bytes:
    """The body without its Content-Encoding. Raises RequestRejected."""
    coding = content_encoding.strip().lower()
    return body if coding in ("", "identity") else inflate(body, coding, BODY_LIMIT)


def _answer_single(receipt: Receipt) -> dict[str, Any]:
    """PRD E1-US1."""
    return {
        "success": True,
        "message": "Data point ingested successfully",
        "device_id": receipt.groups[0].device_id,
        "metric_name": receipt.metric_name,
    }


def _answer_bulk(receipt: Receipt) -> dict[str, Any]:
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
        device_id = rejection.device_id or receipt.groups[0].device_id
        empty = {"success": False, "ingested_count": 0, "failed_count": 0, "total_count": 0, "errors": []}
        result = results.setdefault(device_id, empty)
        result["failed_count"] += 1
        if number < receipt.unreadable:
            result["total_count"] += 1
        else:
            result["ingested_count"] -= 1
        result["success"] = result["ingested_count"] > 0
        result["errors"].append({"index": rejection.index, "field": rejection.field, "detail": rejection.detail})
    return receipt.as_json() | {"results": results}


DOORS = {
    "single": Door(decode_single, _answer_single, plain_single),
    "batch": Door(lambda body, device_id: decode_batch(body, device_id, BODY_LIMIT), Receipt.as_json, plain_batch),
    "bulk": Door(lambda body, _: decode_bulk(body), _answer_bulk, plain_bulk),
    "snapshot": Door(lambda body, _: decode_snapshot(body), Receipt.as_json),
    "events": Door(lambda body, _: decode_events(body), Receipt.as_json),
}
