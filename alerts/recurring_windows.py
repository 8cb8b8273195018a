"""Times of the week, of silences and routes: `{"days": [0, …], "from": "22:00", "to": "06:00", "timezone": …}`.

A window belongs to the day on which it begins (0 is Monday) and ends on the next one where `to` is not after `from`.
Its ends are times of the wall clock there, so a night is 8 hours long, or 7, or 9.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

Window = tuple[datetime, datetime]
_DAY = timedelta(days=1)
_NAMES = {"days", "from", "to", "timezone"}
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def check(weekly: Any) -> str | None:
    """What is wrong with it, and what is accepted; None where nothing is. None itself is always."""
    if weekly is None:
        return None
    if not isinstance(weekly, Mapping) or not {"days", "from", "to"} <= set(weekly) <= _NAMES:
        return 'an object with "days", "from", "to" and "timezone" is accepted, or null'
    days = weekly["days"]
    if not isinstance(days, list) or not days or any(type(day) is not int or not 0 <= day <= 6 for day in days):
        return "days: a list of numbers from 0 (Monday) to 6 (Sunday) is accepted"
    for name in ("from", "to"):
        if not isinstance(weekly[name], str) or not _TIME.fullmatch(weekly[name]):
            return f"{name}: a time from 00:00 to 23:59 is accepted"
    if weekly.get("timezone", "UTC") not in available_timezones():
        return "timezone: a name of the tz database such as Europe/Berlin is accepted"
    return None


def holds(weekly: Mapping[str, Any] | None, at: datetime) -> bool:
    """Whether this moment is within it."""
    return weekly is None or any(begin <= at < end for begin, end in windows(weekly, at, at))


def windows(weekly: Mapping[str, Any], since: datetime, until: datetime) -> Iterator[Window]:
    """The windows that this time touches, in UTC and in order."""
    zone = ZoneInfo(weekly.get("timezone", "UTC"))
    first, last = (time.fromisoformat(weekly[name]) for name in ("from", "to"))
    day = since.astimezone(zone).date() - _DAY
    while day <= until.astimezone(zone).date():
        begin = datetime.combine(day, first, zone).astimezone(UTC)
        # The hour that comes twice is within the window both times.
        end = datetime.combine(day if last > first else day + _DAY, last.replace(fold=1), zone).astimezone(UTC)
        if day.weekday() in weekly["days"] and begin <= until and end > since:
            yield begin, end
        day += _DAY
