"""Units of time as the storage engine counts it: integers of microseconds since 1970, UTC."""

from datetime import UTC, datetime, timedelta

SECOND = 1_000_000
DAY = 86_400 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def to_datetime(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))


def format_time(time: datetime) -> str:
    """Return a time as RFC 3339 in UTC with microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
