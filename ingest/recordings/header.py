"""The columns of a recording, found by the names in its header and by the cells below it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.recordings.cell_values import BOOLEANS, is_number
from ingest.recordings.errors import UnreadableRecording
from ingest.recordings.number_format import looks_like_written_number
from ingest.recordings.timestamps import parse_time_column

TIME = (
    "timestamp", "time", "datetime", "date_time", "date", "ts", "_time", "timestamp_ms", "time_ms", "epoch", "epoch_ms",
    "epoch_s", "unix", "unixtime", "unix_time", "unix_timestamp", "timestamp_utc",
    "last_changed", "last_updated", "mess_datum", "zeit", "zeitstempel", "datum", "datum_zeit", "date_and_time",
)  # fmt: skip
TIME_OF_DAY = ("time", "zeit", "uhrzeit", "time_of_day")
DATES = ("date", "datum")
VALUE = ("value", "_value", "val", "reading", "measurement", "state", "wert", "messwert")
DEVICE = ("device_id", "device", "stations_id", "station_id", "sensor_id")
METRIC = ("metric_name", "metric", "_field", "series")
UNIT = ("unit", "units", "unit_of_measurement", "einheit")
ROW_NUMBERS = frozenset({"#", "no", "no.", "nr", "nr.", "record", "recnum", "row", "index", "id", ""})
MISSING_OF_SHAPE = {"entity_id": ("unavailable", "unknown"), "mess_datum": ("-999",)}
_UNIT_IN_NAME = re.compile(
    r"(?P<name>[^,(\[]+?)\s*(?:[(\[](?P<marked>[^)\]]{1,20})[)\]]|,\s*(?P<after>[^\s,(]{1,20}).*)"
)
_UNIT_WORDS = {"celsius": "°C", "fahrenheit": "°F", "percent": "%"}


@dataclass(frozen=True, slots=True)
class ValueColumn:
    """A column of values. Without a metric, the rows or the options name it."""

    index: int
    metric: str | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class ColumnRoles:
    """The index of each column among `width` columns; None where the file has no such column."""

    width: int
    time: int
    values: tuple[ValueColumn, ...]
    device: int | None = None
    metric: int | None = None
    unit: int | None = None
    tags: int | None = None
    metadata: int | None = None
    time_of_day: int | None = None  # the column of dates has no times
    headless: bool = False  # the first line is a row already
    missing: tuple[str, ...] = ()  # texts that mean "no value" in files of this kind
    ignored: tuple[str, ...] = ()  # names of the columns that are not loaded

    @property
    def is_wide(self) -> bool:
        """Whether each column of values is a metric."""
        return self.values[0].metric is not None


def find_columns(
    header: Sequence[str],
    rows: Sequence[Sequence[str]] = (),
    units: Sequence[str] = (),
    device: str | None = None,
    columns: Sequence[str] = (),
) -> ColumnRoles:
    """Return the role of each column.

    Without a column of values, each column of numbers (judged by `rows`) is a metric. `units` is a row of units below
    the header, `device` the device of all rows, and `columns` names the columns of values that are wanted.
    Raises UnreadableRecording without a column of times or of values.
    """
    names = [normalize(name) for name in header]
    width = len(names)
    time, value = _index_of(names, TIME), _index_of(names, VALUE)
    if time is None:
        time = next((index for index, name in enumerate(names) if name.startswith("timestamp_")), None)
    if time is None and width == 2 and not parse_time_column(header[:1]).errors:
        return ColumnRoles(width, 0, (ValueColumn(1),), headless=True)
    time_of_day = None
    if (date := _index_of(names, DATES)) is not None and (clock := _index_of(names, TIME_OF_DAY)) is not None:
        time, time_of_day = date, clock
    entity = _index_of(names, ("entity_id",))
    device_column = _index_of(names, DEVICE)
    metric_column = _index_of(names, METRIC)
    if entity is not None and device is None and device_column is None:
        device_column = entity
    elif entity is not None and metric_column is None:
        metric_column = entity
    taken = {time, time_of_day, device_column, metric_column}
    if "mess_datum" in names:  # files of the German weather service have columns of quality levels
        taken |= {index for index, name in enumerate(names) if name.startswith("qn")}
    if time is None:
        raise UnreadableRecording(_missing_column("times (such as timestamp)", header))
    if value is None and width == 2 and not columns:
        value = 1 - time
    values: tuple[ValueColumn, ...] = (ValueColumn(value),) if value is not None else ()
    ignored: tuple[str, ...] = ()
    if value is None or columns:
        values, ignored = _wide_columns(header, rows, units, taken, columns)
    if not values:
        raise UnreadableRecording(_missing_column("values (value)", header))
    return ColumnRoles(
        width,
        time,
        values,
        device=device_column,
        metric=None if values[0].metric is not None else metric_column,
        unit=_index_of(names, UNIT),
        tags=_index_of(names, ("tags",)),
        metadata=_index_of(names, ("metadata",)),
        time_of_day=time_of_day,
        missing=tuple(text for name, texts in MISSING_OF_SHAPE.items() if name in names for text in texts),
        ignored=ignored,
    )


def normalize(name: str) -> str:
    """Return the name of a column as it is compared: "Date Time, GMT+01:00" is `date_time`."""
    name = re.sub(r"\s*[,(\[].*", "", name.strip().strip("\ufeff")).lower()
    return re.sub(r"[\s_]+", "_", name)


def _wide_columns(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    units: Sequence[str],
    taken: set[int | None],
    wanted: Sequence[str],
) -> tuple[tuple[ValueColumn, ...], tuple[str, ...]]:
    values: list[ValueColumn] = []
    ignored: list[str] = []
    candidates = [index for index in range(len(header)) if index not in taken]
    for index in candidates:
        name, unit = name_and_unit(header[index])
        cells = [row[index].strip() for row in rows if index < len(row) and row[index].strip()]
        if wanted:
            is_wanted = name in wanted or header[index].strip() in wanted
        else:
            is_wanted = header[index].strip().lower() not in ROW_NUMBERS and _holds_values(cells)
        if is_wanted:
            values.append(ValueColumn(index, name, unit or (units[index].strip() if index < len(units) else "")))
        elif header[index].strip():
            ignored.append(header[index].strip())
    found = {column.metric for column in values} | {header[column.index].strip() for column in values}
    if unknown := [name for name in wanted if name not in found]:
        raise UnreadableRecording(f"--columns: there is no column {unknown[0]!r}; the file has {_shown(header)}")
    names = [column.metric for column in values]
    if repeated := {name for name in names if names.count(name) > 1}:  # the full names differ, or the load is refused
        values = [
            ValueColumn(column.index, header[column.index].strip(), column.unit)
            if column.metric in repeated
            else column
            for column in values
        ]
        names = [column.metric for column in values]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise UnreadableRecording(f"two columns are named {sorted(map(str, repeated))[0]!r}: rename one of them")
    return tuple(values), tuple(ignored)


def _holds_values(cells: Sequence[str]) -> bool:
    if not cells:
        return False
    numbers = sum(1 for cell in cells if is_number(cell) or looks_like_written_number(cell))
    return 2 * numbers >= len(cells) or BOOLEANS.keys() >= {cell.lower() for cell in cells}


def name_and_unit(header: str) -> tuple[str, str]:
    """Return the metric and the unit of a column name such as `Temp, °C (LGR S/N: 1)` or `Humidity (%)`."""
    header = header.strip()
    match = _UNIT_IN_NAME.fullmatch(header)
    if match:
        return match["name"].strip(), (match["marked"] or match["after"]).strip()
    word = header.rpartition("_")[2].lower()
    return header, _UNIT_WORDS.get(word, "")


def _missing_column(what: str, header: Sequence[str]) -> str:
    return f"the header names no column of {what}: it holds {_shown(header)}"


def _shown(header: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in header[:8]) or "nothing"


def _index_of(names: Sequence[str], accepted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in accepted if name in names), None)
