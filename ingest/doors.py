"""The three doors of the site's JSON: how a request is read and how its answer looks, in the fast lane and in REST."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingest.pipeline import Receipt
from ingest.wire.batch import Batch, Unacceptable
from ingest.wire.compression import inflate
from ingest.wire.native import decode_batch, decode_bulk, decode_single

BODY_LIMIT = 16 * 1024 * 1024  # bytes, before and after decompression


@dataclass(frozen=True, slots=True)
class Door:
    """One way in: its decoder (body, device in the URL → Batch) and its answer."""

    decode: Callable[[bytes, str], Batch]
    answer: Callable[[Batch, Receipt], dict[str, Any]]


def check_media_type(content_type: str) -> None:
    """Only JSON is read here. Raises Unacceptable (415)."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Unacceptable(f"Content-Type {kind!r:.60} is not read here: application/json is accepted", 415)


def unpack(body: bytes, content_encoding: str) -> bytes:
    """The body without its Content-Encoding. Raises Unacceptable."""
    coding = content_encoding.strip().lower()
    return body if coding in ("", "identity") else inflate(body, coding, BODY_LIMIT)


def single_answer(device_id: str, metric: str) -> dict[str, Any]:
    """PRD E1-US1."""
    return {
        "success": True,
        "message": "Data point ingested successfully",
        "device_id": device_id,
        "metric_name": metric,
    }


def _answer_bulk(batch: Batch, receipt: Receipt) -> dict[str, Any]:
    results: dict[str, dict[str, Any]] = {}
    for group in batch.groups:
        count = group.stop - group.start
        results[group.device_id] = {
            "success": True,
            "ingested_count": count,
            "failed_count": 0,
            "total_count": count,
            "errors": [],
        }
    decoded = len(batch.rejected)  # those stand first among the rejected and are in no group
    for number, rejection in enumerate(receipt.rejected):
        device_id = rejection.device_id or batch.groups[0].device_id
        empty = {"success": False, "ingested_count": 0, "failed_count": 0, "total_count": 0, "errors": []}
        result = results.setdefault(device_id, empty)
        result["failed_count"] += 1
        if number < decoded:
            result["total_count"] += 1
        else:
            result["ingested_count"] -= 1
        result["success"] = result["ingested_count"] > 0
        result["errors"].append({"index": rejection.index, "field": rejection.field, "detail": rejection.detail})
    return receipt.as_json() | {"results": results}


DOORS = {
    "single": Door(decode_single, lambda batch, _: single_answer(batch.groups[0].device_id, batch.metrics[0])),
    "batch": Door(
        lambda body, device_id: decode_batch(body, device_id, BODY_LIMIT), lambda _, receipt: receipt.as_json()
    ),
    "bulk": Door(lambda body, _: decode_bulk(body), _answer_bulk),
}
