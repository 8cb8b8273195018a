"""Detect the patterns of the last month's alerts, describe them, and replace the stored ones."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
from django.db import connection, transaction

from alerts.models import Pattern, Rule
from alerts.patterns.detect import (
    FLAPPING_ALERTS,
    MAX_PATTERNS,
    AlertColumns,
    DetectedPattern,
    Ints,
    detect_co_occurrence,
    detect_flapping,
    detect_recurring_times,
    detect_sequences,
)
from metrics.models import Device, DeviceGroup

PATTERN_PERIOD = timedelta(days=30)
MAX_ALERTS = 200_000  # the newest ones; 5 MB of columns
MAX_GROUP_ROWS = 2 * MAX_ALERTS  # rows of (alert, group) of the newest alerts
_READ_BATCH = 20_000
_ALERTS = """
SELECT (extract(epoch FROM triggered_at) * 1000000)::bigint, rule_id, device_id FROM alerts_alert
WHERE triggered_at > %s AND triggered_at <= %s AND NOT shadow AND rule_id IS NOT NULL AND device_id IS NOT NULL
ORDER BY triggered_at DESC, id DESC LIMIT %s
"""
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_MAX_NAMED_DEVICES = 3  # devices that a description names


def refresh_patterns(now: datetime) -> int:
    """Detect the patterns of the month before `now` and replace the stored ones. Returns their number.

    A pattern that was stored before keeps its `found_at`.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:  # serializes concurrent runs
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('alerts.patterns', 0))")
        alerts = _read_alerts(now)
        patterns = list(_detect(alerts))
        found_at = {(row.kind, _build_identity(row)): row.found_at for row in Pattern.objects.all()}
        rows = list(_build_rows(patterns))
        for row in rows:
            row.found_at = found_at.get((row.kind, _build_identity(row)), now)
        Pattern.objects.all().delete()
        Pattern.objects.bulk_create(rows, batch_size=200)
    return len(rows)


def count_new_patterns(now: datetime) -> int:
    """Return the number of patterns that were first found in the day before `now`."""
    return Pattern.objects.filter(found_at__gt=now - timedelta(days=1)).count()


def _build_identity(row: Pattern) -> str:
    """Return the identity of a pattern across runs; the kind is not part of it."""
    return json.dumps([row.subject, row.devices if row.kind == "together" else []], sort_keys=True)


def _read_alerts(now: datetime) -> AlertColumns:
    """Read the newest alerts of the period in batches, without shadow alerts, through a server-side cursor."""
    parts: list[Ints] = [np.empty((0, 3), np.int64)]
    with connection.chunked_cursor() as cursor:
        cursor.execute(_ALERTS, [now - PATTERN_PERIOD, now, MAX_ALERTS])
        while rows := cursor.fetchmany(_READ_BATCH):
            parts.append(np.array(rows, np.int64))
    return AlertColumns(*np.concatenate(parts).T.copy())


def _detect(alerts: AlertColumns) -> Iterator[DetectedPattern]:
    group_rows, groups = _repeat_per_group(alerts)
    for patterns in (
        detect_flapping(alerts),
        chain(detect_sequences(alerts, alerts.devices, "device"), detect_sequences(group_rows, groups, "group")),
        detect_recurring_times(alerts),
        detect_co_occurrence(alerts),
    ):
        yield from sorted(patterns, key=lambda pattern: (-pattern.support, -pattern.confidence, str(pattern)))[
            :MAX_PATTERNS
        ]


def _repeat_per_group(alerts: AlertColumns) -> tuple[AlertColumns, Ints]:
    """Return one row per alert and group of its device, for the newest alerts, and the groups."""
    through = Device.groups.through.objects.filter(device_id__in=np.unique(alerts.devices).tolist())
    pairs = np.array(list(through.values_list("device_id", "devicegroup_id").order_by("device_id")), np.int64)
    pairs = pairs.reshape(-1, 2)
    starts, ends = (np.searchsorted(pairs[:, 0], alerts.devices, side) for side in ("left", "right"))
    group_counts = ends - starts  # groups of the device of each alert
    alert_count = np.searchsorted(np.cumsum(group_counts), MAX_GROUP_ROWS, "right")
    starts, group_counts = starts[:alert_count], group_counts[:alert_count]
    alert_rows = np.repeat(np.arange(alert_count), group_counts)
    offsets = np.arange(len(alert_rows)) - np.repeat(np.cumsum(group_counts) - group_counts, group_counts)
    return alerts.select(alert_rows), pairs[starts[alert_rows] + offsets, 1]


def _build_rows(patterns: list[DetectedPattern]) -> Iterator[Pattern]:
    """Yield rows with names instead of primary keys, except patterns whose rule, device or group was deleted."""
    names = _SubjectNames(patterns)
    for pattern in patterns:
        try:
            subject = {key: names.get(key, number) for key, number in pattern.subject.items()}
            devices = sorted(names.get("device", number) for number in pattern.devices)
        except KeyError:
            continue
        yield Pattern(
            kind=pattern.kind,
            subject=subject,
            support=pattern.support,
            confidence=pattern.confidence,
            description=_describe(pattern, subject, devices),
            devices=devices,
        )


class _SubjectNames:
    """Names of the rules, devices and groups of patterns."""

    def __init__(self, patterns: list[DetectedPattern]) -> None:
        self.rules = Rule.objects.in_bulk(_collect_pks(patterns, "rule", "first", "then"))
        devices = Device.objects.filter(pk__in={pk for pattern in patterns for pk in pattern.devices})
        self.devices = dict(devices.values_list("pk", "device_id"))
        groups = DeviceGroup.objects.filter(pk__in=_collect_pks(patterns, "group"))
        self.groups = dict(groups.values_list("pk", "name"))

    def get(self, key: str, number: int) -> Any:
        """Return the value of a key of the subject. Raises KeyError if it was deleted."""
        if key in ("rule", "first", "then"):
            return {"rule_id": self.rules[number].rule_id, "rule_name": self.rules[number].name}
        return {"device": self.devices, "group": self.groups}[key][number] if key in ("device", "group") else number


def _collect_pks(patterns: Iterable[DetectedPattern], *keys: str) -> set[int]:
    return {pattern.subject[key] for pattern in patterns for key in keys if key in pattern.subject}


def _describe(pattern: DetectedPattern, subject: dict[str, Any], devices: list[str]) -> str:
    cases = f"in {pattern.support:,} of {pattern.cases:,} cases"
    if pattern.kind == "flapping":
        evidence = f"{pattern.support:,} of its {pattern.cases:,} alerts were {FLAPPING_ALERTS} or more within an hour"
        return f"“{subject['rule']['rule_name']}” on {subject['device']} flaps: {evidence}"
    if pattern.kind == "following":
        where = f"on {subject['device']}" if "device" in subject else f"elsewhere in group {subject['group']}"
        then, first = (subject[key]["rule_name"] for key in ("then", "first"))
        return f"“{then}” {where} follows “{first}” within 10 min {cases}"
    if pattern.kind == "hour":
        hour = subject["hour"]
        evidence = f"{pattern.support:,} of the {pattern.cases:,} hours with alerts"
        return f"“{subject['rule']['rule_name']}” alerts from {hour:02}:00 to {(hour + 1) % 24:02}:00 UTC: {evidence}"
    if pattern.kind == "weekday":
        evidence = f"{pattern.support:,} of the {pattern.cases:,} days with alerts"
        return f"“{subject['rule']['rule_name']}” alerts on {_WEEKDAYS[subject['weekday']]}: {evidence}"
    unnamed = len(devices) - _MAX_NAMED_DEVICES
    names = f"{', '.join(devices[:_MAX_NAMED_DEVICES])} and {unnamed:,} more" if unnamed > 0 else " and ".join(devices)
    return f"{names} alert within a minute of one another {cases}"
