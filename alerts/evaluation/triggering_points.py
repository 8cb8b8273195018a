"""Read the points that opened alerts again: evaluation does not keep their texts and units."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from alerts.conditions.thresholds import Signal
from alerts.evaluation.alert_text import MAX_EVIDENCE_VALUES, defined_unit, has_unit
from alerts.evaluation.load_history import read_columns
from alerts.evaluation.rule_series_state import RuleSeriesState
from metrics.storage.format.codec import Columns
from metrics.storage.format.contexts import unit_of

READ_PERIOD = 3600 * 1_000_000  # µs; alerts of one period are read together


class TriggeringPoints(NamedTuple):
    """Texts of a window's points by time (µs); empty for numbers. Unit of the compared value."""

    texts: dict[int, str]
    unit: str


class _Window(NamedTuple):
    series: int
    first: int
    last: int


def read_triggering_points(openings: Iterable[tuple[RuleSeriesState, Signal, int]]) -> list[TriggeringPoints]:
    """Return the points of each opening (state, signal, position). Numbers with a defined unit are not read."""
    points: list[TriggeringPoints] = []
    by_period: defaultdict[int, dict[int, _Window]] = defaultdict(dict)
    for number, (state, signal, position) in enumerate(openings):
        conditions = state.watched.spec.conditions
        unit = defined_unit(conditions[0]) if len(conditions) == 1 else ""
        points.append(TriggeringPoints({}, unit))
        if len(state.inputs) == 1 and _has_to_be_read(state, unit):
            window = _window(state, signal, position)
            by_period[window.last // READ_PERIOD][number] = window
    for windows in by_period.values():
        start, end = min(window.first for window in windows.values()), max(window.last for window in windows.values())
        columns = read_columns((window.series for window in windows.values()), start, end + 1)
        for number, window in windows.items():
            if window.series in columns:
                points[number] = _select(columns[window.series], window)
    return points


def _has_to_be_read(state: RuleSeriesState, unit: str) -> bool:
    condition = state.watched.spec.conditions[0]
    return isinstance(condition.threshold, str) or (not unit and has_unit(condition))


def _window(state: RuleSeriesState, signal: Signal, position: int) -> _Window:
    """Return the range to read: of a text the points that the evidence shows, of a number the last one."""
    [source] = state.inputs.values()
    last = int(signal.times[position])
    if not isinstance(state.watched.spec.conditions[0].threshold, str):
        return _Window(source.series, last, last)
    first = int(signal.times[max(0, position + 1 - MAX_EVIDENCE_VALUES)])
    return _Window(source.series, max(first, last - state.watched.spec.window), last)


def _select(columns: Columns, window: _Window) -> TriggeringPoints:
    begin, end = columns.times.searchsorted(window.first), columns.times.searchsorted(window.last, "right")
    texts: dict[int, str] = {}
    if not columns.is_numeric:
        values = (bytes(value).decode() for value in columns.values[begin:end])
        texts = dict(zip(columns.times[begin:end].tolist(), values, strict=True))
    unit = None
    if columns.contexts is not None and end > begin and columns.is_numeric:
        unit = unit_of(columns.dictionary[columns.contexts[end - 1]])
    return TriggeringPoints(texts, unit or "")
