"""The site's own JSON: one point, a batch of one device, points of many devices.

Two paths give the same Batch. The fast path decodes into typed points and fails at the first unusual point. The slow
path then validates point by point, so that each invalid point gets an error and the valid ones are stored.
"""

import base64
import binascii
import contextlib
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from ingest.wire.batch import Batch, Contexts, Group, Rejection, RequestRejected
from ingest.wire.compression import decompress
from ingest.wire.times import parse_times
from ingest.wire.validate import (
    MAX_INTEGER,
    InvalidPoint,
    check_json,
    check_name,
    check_unit,
    check_value,
    parse_document,
    validate_point,
)
from rest.json_names import texts_in

MAX_BATCH_POINTS = 1000  # points of one batch (PRD E1-US2)
POINT_TEXTS = 5  # of a numeric point: three names, time and metric
MAX_COUNTED_BODY = 4096  # bytes
MAX_BULK_POINTS = 50_000  # points of one bulk request, all devices together
COMPRESSIONS = (None, "gzip", "zstd", "lz4")  # values of the field `compression`; PRD E1-US2 has the first three


class NumericPoint(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A number without unit, tags and metadata: nearly all points that devices send."""

    timestamp: str
    metric_name: str
    value: float


_ABSENT = msgspec.Raw()


class _TypedPoint(msgspec.Struct, gc=False):
    """A number, boolean or text, optionally with unit, tags and metadata."""

    timestamp: str
    metric_name: str
    value: float | bool | str
    unit: str | UnsetType | None = UNSET
    tags: msgspec.Raw = _ABSENT  # decoded once for all points of a request that have the same tags
    metadata: msgspec.Raw = _ABSENT


P = TypeVar("P")


class _Body(msgspec.Struct, Generic[P]):
    data_points: list[P]
    batch_id: str | UnsetType | None = UNSET
    compression: str | UnsetType | None = UNSET


_SINGLE = (msgspec.json.Decoder(NumericPoint), msgspec.json.Decoder(_TypedPoint))
_BATCH = (msgspec.json.Decoder(_Body[NumericPoint]), msgspec.json.Decoder(_Body[_TypedPoint]))
_BULK = (msgspec.json.Decoder(dict[str, list[NumericPoint]]), msgspec.json.Decoder(dict[str, list[_TypedPoint]]))
_OBJECT = msgspec.json.Decoder(dict[str, Any] | None)
# Raised by the fast path at the first unusual point.
FAST_PATH_ERRORS = (msgspec.DecodeError, ValueError, RecursionError)


def decode_numeric_point(body: bytes, device_id: str) -> dict[str, list[NumericPoint]]:
    """Decode one numeric point; return points by device. Raises FAST_PATH_ERRORS for any other body."""
    point = _SINGLE[0].decode(body)
    _check_names(body, POINT_TEXTS)
    return {device_id: [point]}


def decode_numeric_batch(body: bytes, device_id: str) -> dict[str, list[NumericPoint]]:
    """Decode a batch of numeric points with no other field. Raises FAST_PATH_ERRORS."""
    batch = _BATCH[0].decode(body)
    _check_names(body, 1 + POINT_TEXTS * len(batch.data_points))
    return {device_id: batch.data_points}


def decode_numeric_bulk(body: bytes, _: str) -> dict[str, list[NumericPoint]]:
    """Decode numeric points of many devices, each named once. Raises FAST_PATH_ERRORS."""
    devices = _BULK[0].decode(body)
    _check_names(body, len(devices) + POINT_TEXTS * sum(map(len, devices.values())))
    return devices


def _check_names(body: bytes, texts: int) -> None:
    """Raise ValueError if a decoded body has more than this number of texts, names included.

    Then a name occurs twice, of which the decoder kept the last, or a text contains quotation marks: the slow path
    distinguishes them.
    """
    if len(body) <= MAX_COUNTED_BODY:
        quotes = body.count(b'"')
    else:  # five times faster than bytes.count
        quotes = int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord('"')))
    if quotes != 2 * texts:
        raise ValueError


def decode_single(body: bytes, device_id: str) -> Batch:
    """Decode `{"timestamp", "metric_name", "value", …}`. Raises RequestRejected."""
    for decoder in _SINGLE:
        with contextlib.suppress(*FAST_PATH_ERRORS):
            return _fast_batch(body, [decoder.decode(body)], [Group(device_id, 0, 1)], 0)
    return _slow_batch([(device_id, [parse_document(body)])])


def decode_batch(body: bytes, device_id: str, max_size: int) -> Batch:
    """Decode `{"data_points": […], "batch_id", "compression"}`. Raises RequestRejected.

    With `compression`, `data_points` may be the base64 of a compressed array of at most `max_size` bytes.
    """
    for decoder in _BATCH:
        with contextlib.suppress(*FAST_PATH_ERRORS):
            request = decoder.decode(body)
            options = [option for option in (request.batch_id, request.compression) if option is not UNSET]
            texts = 1 + sum(1 + texts_in(option) for option in options)
            compression = None if request.compression is UNSET else request.compression
            if not 0 < len(request.data_points) <= MAX_BATCH_POINTS or compression not in COMPRESSIONS:
                break
            batch = _fast_batch(body, request.data_points, [Group(device_id, 0, len(request.data_points))], texts)
            batch.batch_id = _batch_id(None if request.batch_id is UNSET else request.batch_id)
            return batch
    document = _object(parse_document(body))
    if "data_points" not in document:
        raise invalid_field(
            "data_points", f"the field is missing: an array of 1 to {MAX_BATCH_POINTS} points is accepted"
        )
    points = _decompress(document["data_points"], document.get("compression"), max_size)
    batch_id = _batch_id(document.get("batch_id"))
    if not isinstance(points, list):
        raise invalid_field("data_points", f"an array of 1 to {MAX_BATCH_POINTS} points is accepted")
    if not 0 < len(points) <= MAX_BATCH_POINTS:
        raise invalid_field("data_points", f"{len(points)} points: 1 to {MAX_BATCH_POINTS} are accepted", 422)
    batch = _slow_batch([(device_id, points)])
    batch.batch_id = batch_id
    return batch


def decode_bulk(body: bytes) -> Batch:
    """Decode `{device_id: [point, …], …}`. Raises RequestRejected."""
    for decoder in _BULK:
        with contextlib.suppress(*FAST_PATH_ERRORS):
            devices = decoder.decode(body)
            if not devices or not all(devices.values()):
                break
            return _fast_bulk(body, devices)
    document = _object(parse_document(body))
    if not document:
        raise invalid_field("device_id", "no devices: an object of device ids and arrays of points is accepted", 422)
    total = sum(len(points) for points in document.values() if isinstance(points, list))
    if total > MAX_BULK_POINTS:
        raise invalid_field("device_id", f"{total} points: at most {MAX_BULK_POINTS} are accepted in one request", 422)
    batch = _slow_batch(list(document.items()), name_devices=True)
    if batch.total == 0:
        raise invalid_field("device_id", "no points: at least one is required", 422)
    return batch


def _fast_bulk(body: bytes, devices: dict[str, list[Any]]) -> Batch:
    points: list[Any] = []
    groups = []
    for device_id, device_points in devices.items():
        groups.append(Group(device_id, len(points), len(points) + len(device_points)))
        points += device_points
    if len(points) > MAX_BULK_POINTS:
        raise InvalidPoint("device_id", "too many points")
    return _fast_batch(body, points, groups, len(devices))


def _fast_batch(body: bytes, points: list[Any], groups: list[Group], texts: int) -> Batch:
    """Return the columns of valid points. Raises ValueError if a point has to be validated by itself.

    `texts` is the number of texts of the body outside of the points. Names of devices and metrics are not validated
    here: the pipeline validates those of new series.
    """
    texts += POINT_TEXTS * len(points)
    times = parse_times([point.timestamp for point in points])
    values: Any = [point.value for point in points]
    is_typed = type(points[0]) is _TypedPoint
    if not is_typed or set(map(type, values)) == {float}:
        values = np.array(values, np.float64)
        # Either a rounded integer or a float like 1e300: the slow path distinguishes them.
        if np.maximum.reduce(np.abs(values)) >= MAX_INTEGER:
            raise ValueError
    else:
        for value in values:
            check_value(value)
        texts += list(map(type, values)).count(str)
    batch = Batch(groups, [point.metric_name for point in points], times, values)
    if is_typed:
        contexts, indices, texts_of_contexts = _read_contexts(points)
        texts += texts_of_contexts
        batch.contexts, batch.dictionary = contexts.column(indices), contexts.entries
    _check_names(body, texts)
    return batch


def _read_contexts(points: list[_TypedPoint]) -> tuple[Contexts, list[int], int]:
    """Return the distinct contexts, the index of each point's context, and the number of texts in all of them.

    Points of one request have few different contexts, so each is validated once.
    """
    contexts = Contexts()
    known: dict[Any, tuple[int, int]] = {}  # index and number of texts by unit, or by unit, tags and metadata
    indices, texts = [], 0
    for point in points:
        unit, tags, metadata = point.unit, b"", b""
        key: Any = unit
        if point.tags is not _ABSENT or point.metadata is not _ABSENT:
            tags, metadata = bytes(point.tags), bytes(point.metadata)
            key = unit, tags, metadata
        context = known.get(key)
        if context is None:
            context = known[key] = _add_context(contexts, unit, tags, metadata)
        indices.append(context[0])
        texts += context[1]
    return contexts, indices, texts


def _add_context(contexts: Contexts, unit: str | UnsetType | None, tags: bytes, metadata: bytes) -> tuple[int, int]:
    """Add a valid context; return its index and the number of texts in it. Raises InvalidPoint and DecodeError."""
    objects: list[dict[str, Any] | None] = []
    texts = 0 if unit is UNSET else 1 + texts_in(unit)
    for name, field in (("tags", tags), ("metadata", metadata)):
        decoded = _OBJECT.decode(field) if field else None
        check_json(decoded, name)
        texts += 1 + texts_in(decoded) if field else 0
        objects.append(decoded)
    return contexts.add(check_unit(None if unit is UNSET else unit), *objects), texts


def _slow_batch(devices: list[tuple[str, Any]], name_devices: bool = False) -> Batch:
    """Validate every point by itself. With `name_devices` the errors name the device, and each device stands alone."""
    contexts = Contexts()
    groups: list[Group] = []
    rejected: list[Rejection] = []
    rows: list[tuple[str, int, Any, int, int]] = []
    for device_id, points in devices:
        # An unpaired surrogate cannot be sent back.
        error_device = device_id.encode("utf-8", "replace").decode() if name_devices else None
        try:
            check_name(device_id, "device_id")
            if not isinstance(points, list):
                raise InvalidPoint("device_id", "an array of points is accepted for a device")
            if not points:
                raise InvalidPoint("device_id", "no points: at least one is required for a device")
        except InvalidPoint as error:
            count = len(points) if isinstance(points, list) and points else 1
            rejected += [Rejection(index, error.field, error.detail, error_device) for index in range(count)]
            continue
        start = len(rows)
        for index, raw in enumerate(points):
            try:
                metric, time, value, unit, tags, metadata = validate_point(raw)
            except InvalidPoint as error:
                rejected.append(Rejection(index, error.field, error.detail, error_device))
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


def invalid_field(field: str, detail: str, status: int = 400) -> RequestRejected:
    """Return the rejection of a request because of one field."""
    return RequestRejected(f"{field}: {detail}", status, [Rejection(0, field, detail)])


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise RequestRejected("the body must be a JSON object")
    return document


def _batch_id(batch_id: Any) -> str | None:
    if batch_id is None:
        return None
    try:
        return check_name(batch_id, "batch_id")
    except InvalidPoint as error:
        raise invalid_field("batch_id", error.detail) from None


def _decompress(points: Any, compression: Any, max_size: int) -> Any:
    """Apply the PRD's `compression` field: null, or the compression of a base64 text in `data_points`."""
    if compression is None:
        return points
    if compression not in COMPRESSIONS:
        raise invalid_field("compression", "null, gzip, zstd or lz4 is accepted")
    if not isinstance(points, str):
        return points
    try:
        compressed = base64.b64decode(points, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_field(
            "data_points", "not base64: with `compression`, the base64 of a compressed array is accepted"
        ) from None
    return parse_document(decompress(compressed, compression, max_size))
