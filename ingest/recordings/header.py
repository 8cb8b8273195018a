"""The columns of a recording, found by the names in its header."""

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.recordings.csv_source import UnreadableRecording
from ingest.recordings.timestamps import parse_time_column

TIME = (
    "timestamp", "time", "datetime", "date_time", "date", "ts", "_time", "timestamp_ms", "time_ms", "epoch", "epoch_ms",
    "epoch_s", "unix", "unixtime", "unix_time", "unix_timestamp", "timestamp_utc",
)  # fmt: skip
VALUE = ("value", "_value", "val", "reading", "measurement")
DEVICE = ("device_id", "device")
METRIC = ("metric_name", "metric")
UNIT = ("unit", "units")


@dataclass(frozen=True, slots=True)
class ColumnRoles:
    """The index of each column among `width` columns; None where the file has no such column."""

    width: int
    time: int
    value: int
    device: int | None = None
    metric: int | None = None
    unit: int | None = None
    tags: int | None = None
    metadata: int | None = None
    headless: bool = False  # the first line is a row already


def find_columns(header: Sequence[str]) -> ColumnRoles:
    """Return the role of each column. Raises UnreadableRecording without a column of times or of values."""
    names = [name.strip().lower().replace(" ", "_") for name in header]
    width = len(names)
    time, value = _index_of(names, TIME), _index_of(names, VALUE)
    if time is None and width == 2 and not parse_time_column(header[:1]).errors:
        return ColumnRoles(width, 0, 1, headless=True)
    if value is None and time is not None and width == 2:
        value = 1 - time
    if time is None or value is None:
        missing = "times (such as timestamp)" if time is None else "values (value)"
        shown = ", ".join(repr(name) for name in header[:8]) or "nothing"
        raise UnreadableRecording(f"the header names no column of {missing}: it holds {shown}")
    return ColumnRoles(
        width,
        time,
        value,
        device=_index_of(names, DEVICE),
        metric=_index_of(names, METRIC),
        unit=_index_of(names, UNIT),
        tags=_index_of(names, ("tags",)),
        metadata=_index_of(names, ("metadata",)),
    )


def _index_of(names: Sequence[str], accepted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in accepted if name in names), None)
