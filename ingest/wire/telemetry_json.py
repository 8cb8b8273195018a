"""The site's own JSON: one point, a batch of one device, points of many devices.

Two ways lead to the same Batch. The fast one decodes straight into typed points and gives up at the first thing out
of the ordinary; the careful one judges point by point, so that every bad one gets its verdict and no good one is
lost. Whatever the fast way accepts, the careful way accepts as the same Batch (a property test holds them together).
"""

import base64
import binascii
import contextlib
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from ingest.wire.batch import Batch, Contexts, Group, Rejection, RequestRejected
from ingest.wire.compression import inflate
from ingest.wire.times import parse_times
from ingest.wire.validate import (
    LARGEST_INTEGER,
    BadPoint,
    check_json,
    check_name,
    check_unit,
    check_value,
    judge,
    parse_document,
)

BATCH_LIMIT = 1000  # points of one batch (PRD E1-US2)
BULK_LIMIT = 50_000  # points of one bulk request, all devices together
CODINGS_OF_THE_FIELD = (None, "gzip", "zstd", "lz4")  # PRD E1-US2 names the first three


class Plain(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A number and nothing else: what devices send nearly always."""

    timestamp: str
    metric_name: str
    value: float


class _Typed(msgspec.Struct, gc=False):
    """A number, boolean or text with what may go with it."""

    timestamp: str
    metric_name: str
    value: float | bool | str
    unit: str | None = None
    tags: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


P = TypeVar("P")


class _Body(msgspec.Struct, Generic[P]):
    data_points: list[P]
    batch_id: str | None = None
    compression: str | None = None


_SINGLE = (msgspec.json.Decoder(Plain), msgspec.json.Decoder(_Typed))
_BATCH = (msgspec.json.Decoder(_Body[Plain]), msgspec.json.Decoder(_Body[_Typed]))
_BULK = (msgspec.json.Decoder(dict[str, list[Plain]]), msgspec.json.Decoder(dict[str, list[_Typed]]))
# What the fast way raises at the first thing out of the ordinary.
GIVES_UP = (msgspec.DecodeError, ValueError, RecursionError)


def plain_single(body: bytes, device_id: str) -> dict[str, list[Plain]]:
    """Plain numbers by device, as they stand in the body. Raises one of GIVES_UP where there is anything else."""
    return {device_id: [_SINGLE[0].decode(body)]}


def plain_batch(body: bytes, device_id: str) -> dict[str, list[Plain]]:
    """The same of a batch, without a `batch_id`."""
    found = _BATCH[0].decode(body)
    if found.batch_id is not None or found.compression not in CODINGS_OF_THE_FIELD:
        raise ValueError
    return {device_id: found.data_points}


def plain_bulk(body: bytes, _: str) -> dict[str, list[Plain]]:
    """The same of many devices, each named once."""
    found = _BULK[0].decode(body)
    if body.count(b"[") != len(found):
        raise ValueError
    return found


def decode_single(body: bytes, device_id: str) -> Batch:
    """`{"timestamp", "metric_name", "value", …}`. Raises RequestRejected."""
    for decoder in _SINGLE:
        with contextlib.suppress(*GIVES_UP):
            return _fast([decoder.decode(body)], [Group(device_id, 0, 1)])
    return _careful([(device_id, [parse_document(body)])])


def decode_batch(body: bytes, device_id: str, ceiling: int) -> Batch:
    """`{"data_points": […], "batch_id", "compression"}`. Raises RequestRejected.

    Where `compression` is named, `data_points` may be the base64 of a compressed array, of at most `ceiling` bytes.
    """
    for decoder in _BATCH:
        with contextlib.suppress(*GIVES_UP):
            found = decoder.decode(body)
            if not 0 < len(found.data_points) <= BATCH_LIMIT or found.compression not in CODINGS_OF_THE_FIELD:
                break
            batch = _fast(found.data_points, [Group(device_id, 0, len(found.data_points))])
            batch.batch_id = _batch_id(found.batch_id)
            return batch
    document = _object(parse_document(body))
    if "data_points" not in document:
        raise _field("data_points", "the field is missing: an array of 1 to 1000 points is accepted")
    packed = _unpacked(document["data_points"], document.get("compression"), ceiling)
    batch_id = _batch_id(document.get("batch_id"))
    if not isinstance(packed, list):
        raise _field("data_points", "an array of 1 to 1000 points is accepted")
    if not 0 < len(packed) <= BATCH_LIMIT:
        raise _field("data_points", f"{len(packed)} points: 1 to {BATCH_LIMIT} are accepted", 422)
    batch = _careful([(device_id, packed)])
    batch.batch_id = batch_id
    return batch


def decode_bulk(body: bytes) -> Batch:
    """`{device_id: [point, …], …}`. Raises RequestRejected."""
    for decoder in _BULK:
        with contextlib.suppress(*GIVES_UP):
            found = decoder.decode(body)
            # A device named twice would lose its first points to the second; a bracket per device rules it out.
            if not found or not all(found.values()) or _brackets(body) != len(found):
                break
            return _fast_bulk(found)
    document = _object(parse_document(body))
    if not document:
        raise _field("device_id", "no devices: an object of device ids and arrays of points is accepted", 422)
    total = sum(len(points) for points in document.values() if isinstance(points, list))
    if total > BULK_LIMIT:
        raise _field("device_id", f"{total} points: at most {BULK_LIMIT} are accepted in one request", 422)
    batch = _careful(list(document.items()), name_devices=True)
    if batch.total == 0:
        raise _field("device_id", "no device has a point: at least one is needed", 422)
    return batch


def _brackets(body: bytes) -> int:
    """How often `[` occurs: three times faster than bytes.count."""
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord("[")))


def _fast_bulk(devices: dict[str, list[Any]]) -> Batch:
    points: list[Any] = []
    groups = []
    for device_id, several in devices.items():
        groups.append(Group(device_id, len(points), len(points) + len(several)))
        points += several
    if len(points) > BULK_LIMIT:
        raise BadPoint("device_id", "too many points")
    return _fast(points, groups)


def _fast(points: list[Any], groups: list[Group]) -> Batch:
    """Columns of points that are as they should be. Raises ValueError where a careful look is needed.

    Names are not looked at: the pipeline checks each when it sees it first.
    """
    times = parse_times([point.timestamp for point in points])
    values: Any = [point.value for point in points]
    typed = type(points[0]) is _Typed
    if not typed or set(map(type, values)) == {float}:
        values = np.array(values, np.float64)
        # A rounded integer looks like this, and so does an honest 1e300: the careful way tells them apart.
        if np.maximum.reduce(np.abs(values)) >= LARGEST_INTEGER:
            raise ValueError
    else:
        for value in values:
            check_value(value)
    batch = Batch(groups, [point.metric_name for point in points], times, values)
    if typed:
        contexts = Contexts()
        index = []
        for point in points:
            index.append(contexts.add(check_unit(point.unit), point.tags, point.metadata))
            if point.tags or point.metadata:
                check_json(point.tags, "tags")
                check_json(point.metadata, "metadata")
        batch.contexts, batch.dictionary = contexts.column(index), contexts.entries
    return batch


def _careful(devices: list[tuple[str, Any]], name_devices: bool = False) -> Batch:
    """Every point judged by itself. `name_devices`: verdicts say which device, and one bad device harms no other."""
    contexts = Contexts()
    groups: list[Group] = []
    rejected: list[Rejection] = []
    rows: list[tuple[str, int, Any, int, int]] = []
    for device_id, points in devices:
        named = device_id if name_devices else None
        try:
            check_name(device_id, "device_id")
            if not isinstance(points, list):
                raise BadPoint("device_id", "an array of points is accepted for a device")
            if not points:
                raise BadPoint("device_id", "no points: at least one is needed for a device")
        except BadPoint as bad:
            count = len(points) if isinstance(points, list) and points else 1
            rejected += [Rejection(index, bad.field, bad.detail, named) for index in range(count)]
            continue
        start = len(rows)
        for index, raw in enumerate(points):
            try:
                metric, time, value, unit, tags, metadata = judge(raw)
            except BadPoint as bad:
                rejected.append(Rejection(index, bad.field, bad.detail, named))
            else:
                rows.append((metric, time, value, contexts.add(unit, tags, metadata), index))
        groups.append(Group(device_id, start, len(rows)))
    values: Any = [row[2] for row in rows]
    if all(type(value) is float for value in values):
        values = np.array(values, np.float64)
    return Batch(
        groups,
        [row[0] for row in rows],
        np.array([row[1] for row in rows], np.int64),
        values,
        contexts.column([row[3] for row in rows]),
        contexts.entries,
        np.array([row[4] for row in rows], np.int64),
        rejected,
    )


def _field(field: str, detail: str, status: int = 400) -> RequestRejected:
    return RequestRejected(f"{field}: {detail}", status, [Rejection(0, field, detail)])


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise RequestRejected("the body must be a JSON object")
    return document


def _batch_id(given: Any) -> str | None:
    if given is None:
        return None
    try:
        return check_name(given, "batch_id")
    except BadPoint as bad:
        raise _field("batch_id", bad.detail) from None


def _unpacked(points: Any, compression: Any, ceiling: int) -> Any:
    """The PRD's `compression` field: null, or the coding of a base64 text in `data_points`."""
    if compression is None:
        return points
    if compression not in CODINGS_OF_THE_FIELD:
        raise _field("compression", "null, gzip, zstd or lz4 is accepted")
    if not isinstance(points, str):
        return points
    try:
        packed = base64.b64decode(points, validate=True)
    except (binascii.Error, ValueError):
        raise _field("data_points", "with `compression`, the base64 of a compressed array is accepted") from None
    return parse_document(inflate(packed, compression, ceiling))
