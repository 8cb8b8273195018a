"""Recurring windows of silences and routes: `{"days": [0, …], "from": "22:00", "to": "06:00", "timezone": …}`.

A window belongs to the day on which it begins (0 is Monday) and ends on the next day if `to` is not after `from`.
`from` and `to` are local times, so a night of 8 hours lasts 7 or 9 hours when the clocks change.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

Occurrence = tuple[datetime, datetime]
_DAY = timedelta(days=1)
_FIELDS = {"days", "from", "to", "timezone"}
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def validate(weekly: Any) -> str | None:
    """Return what is wrong with a recurring window, or None if it is valid. None (always) is valid."""
    if weekly is None:
        return None
    if not isinstance(weekly, Mapping) or not {"days", "from", "to"} <= set(weekly) <= _FIELDS:
        return 'must be an object with "days", "from", "to" and optionally "timezone", or null'
    days = weekly["days"]
    if not isinstance(days, list) or not days or any(type(day) is not int or not 0 <= day <= 6 for day in days):
        return "days: must be a list of 0 (Monday) to 6 (Sunday)"
    for name in ("from", "to"):
        if not isinstance(weekly[name], str) or not _TIME.fullmatch(weekly[name]):
            return f"{name}: must be a time from 00:00 to 23:59"
    if weekly.get("timezone", "UTC") not in available_timezones():
        return "timezone: must be a name of the tz database such as Europe/Berlin"
    return None


def is_active(weekly: Mapping[str, Any] | None, at: datetime) -> bool:
    """Return whether a recurring window is active at this time; None is always active."""
    return weekly is None or any(begin <= at < end for begin, end in list_occurrences(weekly, at, at))


def list_occurrences(weekly: Mapping[str, Any], since: datetime, until: datetime) -> Iterator[Occurrence]:
    """Yield the occurrences that overlap this time range, in UTC and in order."""
    zone = ZoneInfo(weekly.get("timezone", "UTC"))
    start, end_time = (time.fromisoformat(weekly[name]) for name in ("from", "to"))
    day = since.astimezone(zone).date() - _DAY
    while day <= until.astimezone(zone).date():
        begin = datetime.combine(day, start, zone).astimezone(UTC)
        # fold=1: when clocks are set back, the window includes both passes of the repeated hour.
        end = datetime.combine(day if end_time > start else day + _DAY, end_time.replace(fold=1), zone).astimezone(UTC)
        # When clocks are set forward, a window within the skipped hour would end before it begins.
        if day.weekday() in weekly["days"] and begin < end and begin <= until and end > since:
            yield begin, end
        day += _DAY
