"""Questions about measurements, answered in the words of the API: devices, metrics, times."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from metrics.storage.connection import read_connection
from metrics.storage.format.codec import Columns, Ints, Kind
from metrics.storage.format.contexts import read_context
from metrics.storage.read import block_cache
from metrics.storage.read import latest as newest
from metrics.storage.series_registry import cached_registry

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
EVER = timedelta(days=3650)  # far enough that a recording of years ago still shows its newest value
FEW = 8  # series up to which looking one by one is fastest
TIME_RANGES = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
}

SERIES = f"""
SELECT s.id, s.kind, d.device_id, s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
WHERE (%(devices)s::text[] IS NULL OR d.device_id = ANY(%(devices)s))
  AND (%(metrics)s::text[] IS NULL OR s.metric_name = ANY(%(metrics)s))
  AND (%(groups)s::text[] IS NULL OR {block_cache.IN_GROUPS})
ORDER BY d.device_id, s.metric_name
"""  # noqa: S608 - a constant with a constant in it


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement."""

    device_id: str
    metric_name: str
    timestamp: datetime
    value: Any
    unit: str | None
    tags: dict[str, Any]
    metadata: dict[str, Any]


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(micro: int) -> datetime:
    return EPOCH + timedelta(microseconds=int(micro))


def shown(value: Any, kind: Kind) -> Any:
    """What is stored, as JSON shows it."""
    if kind is Kind.NUMERIC:
        return float(value)
    if kind is Kind.BOOLEAN:
        return bool(value)
    if kind is Kind.STRING:
        return value.decode()
    return base64.b64encode(value).decode() if kind is Kind.BINARY else msgspec.json.decode(value)


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest points by device and metric, and the names of damaged blocks that may have held newer ones."""

    points: list[Point]
    damaged: list[str]


def latest(
    devices: Sequence[str] | None,
    metrics: Sequence[str] | None,
    lookback: timedelta = DAY,
    now: datetime | None = None,
    groups: Sequence[str] | None = None,
) -> list[Point]:
    """The newest point of every matching series (None: of all), by device and metric."""
    return newest_points(devices, metrics, lookback, now, groups).points


def newest_points(
    devices: Sequence[str] | None,
    metrics: Sequence[str] | None,
    lookback: timedelta = DAY,
    now: datetime | None = None,
    groups: Sequence[str] | None = None,
) -> Newest:
    """The same, for whoever tells what is missing."""
    since = microseconds((now or datetime.now(UTC)) - lookback)
    held = newest.find_latest(devices, metrics, since, groups)
    series, parts = held.series, held.candidates
    place = _newest_of([one.id for one in series], parts, since)
    found: dict[tuple[str, str], Point] = {}
    for one in series:
        if one.id not in place:
            continue
        point = _point(one, *place[one.id])
        other = found.get((one.device_id, one.metric_name))  # the same metric in another kind of value
        if other is None or other.timestamp <= point.timestamp:
            found[one.device_id, one.metric_name] = point
    return Newest([found[key] for key in sorted(found)], held.damaged)


def last_seen(devices: Sequence[str], lookback: timedelta = EVER) -> dict[str, datetime]:
    """When each of these devices was last heard of, in one read; those that were not are left out."""
    if not devices:
        return {}
    since = microseconds(datetime.now(UTC) - lookback)
    held = newest.find_latest(devices, None, since)
    place = _newest_of([one.id for one in held.series], held.candidates, since)
    times: dict[str, int] = {}
    for one in held.series:
        if one.id in place:
            part, at = place[one.id]
            times[one.device_id] = max(times.get(one.device_id, 0), int(part.times[at]))
    return {device_id: moment(time) for device_id, time in times.items()}


def _newest_of(ids: list[int], candidates: list[newest.Candidate], since: int) -> dict[int, tuple[Columns, int]]:
    """Series id to (part, position) of its newest point; of two writes of one time the later wins.

    Candidates come youngest first, so the search ends where all that is left is older than what was found.
    """
    best: dict[int, tuple[int, int, Columns, int]] = {}
    wanted = np.array(sorted(ids), np.int64)
    for one in candidates:
        if len(best) == len(ids) and min(best.values(), key=itemgetter(0))[0] > one.time_to:
            break
        for number, position in _last_of(one.part, ids, wanted):
            time = int(one.part.times[position])
            if time >= since and (number not in best or best[number][:2] <= (time, one.seq)):
                best[number] = (time, one.seq, one.part, position)
    return {number: (part, position) for number, (_, _, part, position) in best.items()}


def _last_of(part: Columns, ids: list[int], wanted: Ints) -> Iterable[tuple[int, int]]:
    """(series, position of its last point) of those that are in a part."""
    if len(ids) <= FEW:
        spans = ((number, part.span(number)) for number in ids)
        return [(number, span.stop - 1) for number, span in spans if span.stop]
    at = np.searchsorted(part.ids, wanted)
    at[at == len(part.ids)] = 0
    here = np.flatnonzero(part.ids[at] == wanted)
    return zip(wanted[here].tolist(), (part.offsets[at[here] + 1] - 1).tolist(), strict=True)


def _point(series: newest.NamedSeries, part: Columns, at: int) -> Point:
    entry = b"" if part.contexts is None else part.dictionary[part.contexts[at]]
    unit, tags, metadata = read_context(entry)
    value, metric = shown(part.values[at], series.kind), series.metric_name
    unit = unit or cached_registry().unit(metric)
    return Point(series.device_id, metric, moment(part.times[at]), value, unit, tags, metadata)


_HEARD = f"""
SELECT DISTINCT d.device_id FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
WHERE s.id = ANY(%(series)s) AND (%(groups)s::text[] IS NULL OR {block_cache.IN_GROUPS}) LIMIT %(most)s
"""  # noqa: S608 - a constant with a constant in it


def heard_lately(most: int, groups: Sequence[str] | None = None, commits: int = 20) -> list[str]:
    """Ids of devices that the newest commits tell of, of these groups (None: of all): what is alive in a fleet, at the
    same price for any size.
    """
    with read_connection() as connection:
        heads = block_cache.read_heads(connection)
        each = -(-commits // len(heads))
        recent = block_cache.read_commits_after(connection, {shard: seq - each for shard, seq in heads.items()}, each)
        recent.sort(key=lambda commit: heads[commit[0][0]] - commit[0][1])  # the newest of every shard first
        numbers = [number for _, parts in recent for part in parts for number in part.ids.tolist()]
        rows = connection.execute(
            _HEARD,
            {
                "series": list(dict.fromkeys(numbers))[: 50 * most],
                "groups": None if groups is None else list(groups),
                "most": most,
            },
        ).fetchall()
    return [device_id for (device_id,) in rows]


_METRICS = f"""
SELECT DISTINCT s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
WHERE d.device_id = %(device)s AND (%(groups)s::text[] IS NULL OR {block_cache.IN_GROUPS}) ORDER BY 1
"""  # noqa: S608 - a constant with a constant in it


def device_metrics(device_id: str, groups: Sequence[str] | None = None) -> list[str]:
    """The names of the metrics that a device has sent; none where it has to be in one of these groups and is not."""
    with read_connection() as connection:
        rows = connection.execute(
            _METRICS, {"device": device_id, "groups": None if groups is None else list(groups)}
        ).fetchall()
    return [name for (name,) in rows]
