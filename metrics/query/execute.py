"""Asking: which series a question is about, and then the answer."""

import time
from dataclasses import replace

from metrics.query.aggregate import aggregated
from metrics.query.latest import SERIES
from metrics.query.query import MOST_SERIES, WITHOUT_VALUES, Question
from metrics.query.raw_points import points
from metrics.query.result import Answer, Asked
from metrics.storage.connection import read_connection
from metrics.storage.format.codec import Kind
from rest.errors import InvalidField

_MEMBERS = """
SELECT d.device_id, g.name FROM metrics_device_groups m JOIN metrics_device d ON d.id = m.device_id
JOIN metrics_devicegroup g ON g.id = m.devicegroup_id
WHERE d.device_id = ANY(%(devices)s) AND (%(groups)s::text[] IS NULL OR g.name = ANY(%(groups)s))
"""


def ask(question: Question) -> Answer:
    """Answer a question. Raises InvalidField, Overloaded or StorageUnavailable."""
    started = time.perf_counter()
    question.check()
    question.begins_after()
    found = series_of(question)
    if not found:
        answer = Answer(question)
    elif question.aggregation is None:
        answer = points(question, found)
    else:
        answer = aggregated(question, found)
    answer.read["milliseconds"] = round((time.perf_counter() - started) * 1000, 3)
    return answer


def series_of(question: Question) -> list[Asked]:
    """Which series there are to ask, by device and metric; to group by groups, once for every group."""
    found = _series(question)
    return _by_group(question, found) if question.group_by == "group" else found


def _series(question: Question) -> list[Asked]:
    wanted = {
        "devices": None if question.devices is None else list(question.devices),
        "metrics": list(question.metrics),
        "groups": None if question.groups is None else list(question.groups),
    }
    with read_connection() as connection:
        rows = connection.execute(f"{SERIES} LIMIT {MOST_SERIES + 1}", wanted).fetchall()
    if len(rows) > MOST_SERIES:
        raise InvalidField("devices", f"over {MOST_SERIES:,} series; name the devices to ask for")
    found = [Asked(number, Kind(kind), device_id, metric) for number, kind, device_id, metric in rows]
    if question.pairs is not None:
        pairs = set(question.pairs)
        found = [one for one in found if (one.device_id, one.metric_name) in pairs]
    devices = {device_id: place for place, device_id in enumerate(question.devices or ())}
    metrics = {metric: place for place, metric in enumerate(question.metrics)}
    found.sort(key=lambda one: (devices.get(one.device_id, 0), metrics[one.metric_name]))  # as they were asked for
    numeric = [one for one in found if one.kind.is_number]
    if question.min_value is not None or question.max_value is not None:
        _check_numeric(found, numeric, "filters", "min_value and max_value are for numbers")
        return numeric
    if question.aggregation is not None and question.aggregation not in WITHOUT_VALUES:
        accepted = f"{question.aggregation} is for numbers; of anything else only {', '.join(WITHOUT_VALUES)} is known"
        _check_numeric(found, numeric, "aggregation", accepted)
        return numeric
    return found


def _by_group(question: Question, found: list[Asked]) -> list[Asked]:
    """Each series once for every group that its device is in, of those that are asked for; in none of them first."""
    wanted = {
        "devices": list({one.device_id for one in found}),
        "groups": None if question.groups is None else list(question.groups),
    }
    groups: dict[str, list[str | None]] = {}
    with read_connection() as connection:
        for device_id, name in connection.execute(_MEMBERS, wanted):
            groups.setdefault(device_id, []).append(name)
    by_group = [replace(one, group=name) for one in found for name in groups.get(one.device_id, [None])]
    if len(by_group) > MOST_SERIES:
        raise InvalidField("group_by", f"over {MOST_SERIES:,} series of all groups; name the groups to ask for")
    return sorted(by_group, key=lambda one: (one.group is not None, one.group or ""))


def _check_numeric(found: list[Asked], numeric: list[Asked], name: str, detail: str) -> None:
    metrics = {one.metric_name: one.kind.name.lower() for one in found}
    for one in numeric:
        metrics.pop(one.metric_name, None)
    if metrics:
        metric, kind = next(iter(metrics.items()))
        raise InvalidField(name, f"{metric} is {kind}: {detail}")
