"""Which column of a recording is what: the header decides."""

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.recordings.source import Unreadable
from ingest.recordings.timestamps import read_moments

TIME = (
    "timestamp", "time", "datetime", "date_time", "date", "ts", "_time", "timestamp_ms", "time_ms", "epoch", "epoch_ms",
    "epoch_s", "unix", "unixtime", "unix_time", "unix_timestamp", "timestamp_utc",
)  # fmt: skip
VALUE = ("value", "_value", "val", "reading", "measurement")
DEVICE = ("device_id", "device")
METRIC = ("metric_name", "metric")
UNIT = ("unit", "units")


@dataclass(frozen=True, slots=True)
class Roles:
    """The place of each column among `width`; None where there is no such column."""

    width: int
    time: int
    value: int
    device: int | None = None
    metric: int | None = None
    unit: int | None = None
    tags: int | None = None
    metadata: int | None = None
    headless: bool = False  # the first line holds a row already


def roles_of(header: Sequence[str]) -> Roles:
    """Raises Unreadable where times or values cannot be told."""
    names = [name.strip().lower().replace(" ", "_") for name in header]
    width = len(names)
    time, value = _place(names, TIME), _place(names, VALUE)
    if time is None and width == 2 and not read_moments(header[:1]).bad:
        return Roles(width, 0, 1, headless=True)
    if value is None and time is not None and width == 2:
        value = 1 - time
    if time is None or value is None:
        missing = "times (such as timestamp)" if time is None else "values (value)"
        shown = ", ".join(repr(name) for name in header[:8]) or "nothing"
        raise Unreadable(f"the header names no column of {missing}: it holds {shown}")
    return Roles(
        width,
        time,
        value,
        device=_place(names, DEVICE),
        metric=_place(names, METRIC),
        unit=_place(names, UNIT),
        tags=_place(names, ("tags",)),
        metadata=_place(names, ("metadata",)),
    )


def _place(names: Sequence[str], accepted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in accepted if name in names), None)
