"""Patterns of the last month's alerts: read as columns, found, told in words, and kept instead of those of before."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
from django.db import connection, transaction

from alerts.models import Pattern, Rule
from alerts.patterns.detect import FLAPS, MOST_FOUND, Columns, Found, Ints, flapping, following, regular, together
from metrics.models import Device, DeviceGroup

PAST = timedelta(days=30)
MOST_ALERTS = 200_000  # the newest; 5 MB of columns
MOST_MEMBERSHIPS = 2 * MOST_ALERTS  # alerts at groups, of the newest: an alert counts in every group of its device
_CHUNK = 20_000
_ALERTS = """
SELECT (extract(epoch FROM triggered_at) * 1000000)::bigint, rule_id, device_id FROM alerts_alert
WHERE triggered_at > %s AND triggered_at <= %s AND NOT shadow AND rule_id IS NOT NULL AND device_id IS NOT NULL
ORDER BY triggered_at DESC, id DESC LIMIT %s
"""
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_NAMED = 3  # devices by name; of more, how many


def find_all(now: datetime) -> int:
    """Find the patterns of the month before `now`, and keep them instead of those of before. Returns how many.

    One that was found before keeps the time when it was found first.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:  # of two at once, one waits
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('alerts.patterns', 0))")
        alerts = _read(now)
        found = list(_find(alerts))
        known = {(one.kind, _identity(one)): one.found_at for one in Pattern.objects.all()}
        rows = list(_told(found))
        for row in rows:
            row.found_at = known.get((row.kind, _identity(row)), now)
        Pattern.objects.all().delete()
        Pattern.objects.bulk_create(rows, batch_size=200)
    return len(rows)


def found_per_day(now: datetime) -> int:
    """The pattern rate: how many of those that are known were first found in the day before `now`."""
    return Pattern.objects.filter(found_at__gt=now - timedelta(days=1)).count()


def _identity(row: Pattern) -> str:
    """By what a pattern is the same one as before, besides its kind."""
    return json.dumps([row.subject, row.devices if row.kind == "together" else []], sort_keys=True)


def _read(now: datetime) -> Columns:
    """The newest alerts of the past month, shadows left out, by a cursor on the server: a few columns of a chunk."""
    parts: list[Ints] = [np.empty((0, 3), np.int64)]
    with connection.chunked_cursor() as cursor:
        cursor.execute(_ALERTS, [now - PAST, now, MOST_ALERTS])
        while rows := cursor.fetchmany(_CHUNK):
            parts.append(np.array(rows, np.int64))
    return Columns(*np.concatenate(parts).T.copy())


def _find(alerts: Columns) -> Iterator[Found]:
    at_groups, groups = _at_groups(alerts)
    for found in (
        flapping(alerts),
        chain(following(alerts, alerts.devices, "device"), following(at_groups, groups, "group")),
        regular(alerts),
        together(alerts),
    ):
        yield from sorted(found, key=lambda one: (-one.support, -one.confidence, str(one)))[:MOST_FOUND]


def _at_groups(alerts: Columns) -> tuple[Columns, Ints]:
    """The newest alerts once for each group that their device is in, and these groups."""
    through = Device.groups.through.objects.filter(device_id__in=np.unique(alerts.devices).tolist())
    pairs = np.array(list(through.values_list("device_id", "devicegroup_id").order_by("device_id")), np.int64)
    pairs = pairs.reshape(-1, 2)
    begins, ends = (np.searchsorted(pairs[:, 0], alerts.devices, side) for side in ("left", "right"))
    times = ends - begins  # how many groups each alert is at
    newest = np.searchsorted(np.cumsum(times), MOST_MEMBERSHIPS, "right")
    begins, times = begins[:newest], times[:newest]
    row = np.repeat(np.arange(newest), times)
    place = np.arange(len(row)) - np.repeat(np.cumsum(times) - times, times)
    return alerts.at(row), pairs[begins[row] + place, 1]


def _told(found: list[Found]) -> Iterator[Pattern]:
    """What was found, with names instead of numbers, and in words; but what is about something deleted meanwhile."""
    names = _Names(found)
    for one in found:
        try:
            subject = {key: names.of(key, number) for key, number in one.subject.items()}
            devices = sorted(names.of("device", number) for number in one.devices)
        except KeyError:
            continue
        yield Pattern(
            kind=one.kind,
            subject=subject,
            support=one.support,
            confidence=one.confidence,
            description=_description(one, subject, devices),
            devices=devices,
        )


class _Names:
    """What rules, devices and groups are called of which something was found."""

    def __init__(self, found: list[Found]) -> None:
        self.rules = Rule.objects.in_bulk(_numbers(found, "rule", "first", "then"))
        devices = Device.objects.filter(pk__in={number for one in found for number in one.devices})
        self.devices = dict(devices.values_list("pk", "device_id"))
        groups = DeviceGroup.objects.filter(pk__in=_numbers(found, "group"))
        self.groups = dict(groups.values_list("pk", "name"))

    def of(self, key: str, number: int) -> Any:
        """As a pattern's subject says it. Raises KeyError where it is not there any more."""
        if key in ("rule", "first", "then"):
            return {"rule_id": self.rules[number].rule_id, "rule_name": self.rules[number].name}
        return {"device": self.devices, "group": self.groups}[key][number] if key in ("device", "group") else number


def _numbers(found: Iterable[Found], *keys: str) -> set[int]:
    return {one.subject[key] for one in found for key in keys if key in one.subject}


def _description(one: Found, subject: dict[str, Any], devices: list[str]) -> str:
    cases = f"in {one.support:,} of {one.cases:,} cases"
    if one.kind == "flapping":
        share = f"{one.support:,} of its {one.cases:,} alerts came {FLAPS} or more within an hour"
        return f"“{subject['rule']['rule_name']}” on {subject['device']} flaps: {share}"
    if one.kind == "following":
        where = f"on {subject['device']}" if "device" in subject else f"elsewhere in group {subject['group']}"
        then, first = (subject[key]["rule_name"] for key in ("then", "first"))
        return f"“{then}” {where} follows “{first}” within 10 min {cases}"
    if one.kind == "hour":
        hour = subject["hour"]
        share = f"{one.support:,} of the {one.cases:,} hours in which it came"
        return f"“{subject['rule']['rule_name']}” comes from {hour:02}:00 to {(hour + 1) % 24:02}:00 UTC: {share}"
    if one.kind == "weekday":
        share = f"{one.support:,} of the {one.cases:,} days on which it came"
        return f"“{subject['rule']['rule_name']}” comes on {_WEEKDAYS[subject['weekday']]}: {share}"
    more = len(devices) - _NAMED
    named = f"{', '.join(devices[:_NAMED])} and {more:,} more" if more > 0 else " and ".join(devices)
    return f"{named} trigger within a minute of one another {cases}"
