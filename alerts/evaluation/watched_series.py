"""The series that rules watch, laid out so that a commit of thousands of points is filtered in one pass.

A series is looked up when its first points come. An unwatched one costs one integer.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from alerts.conditions.alert_lifecycle import NEVER
from alerts.conditions.composite import CompositeState
from alerts.evaluation.restore_state import RestoredAlerts
from alerts.evaluation.rule_series_state import ConditionInput, RuleSeriesKey, RuleSeriesState, WatchedRule
from alerts.models import Rule
from alerts.rules.lifecycle import spec_of
from metrics.models import Device
from metrics.query.accumulators import Floats, Ints
from metrics.query.series_lookup import SeriesIdentity, find_series_of_metrics, read_series_identities
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from rest.errors import InvalidFields

_Element = TypeVar("_Element", bound=np.generic)

UNKNOWN, UNWATCHED = -2, -1  # in place of a row of WatchedSeries
_BELOW, _EQUAL, _ABOVE = 1, 2, 4
_BREACHING_SIDES = {
    ">": _ABOVE,
    "<": _BELOW,
    ">=": _ABOVE | _EQUAL,
    "<=": _BELOW | _EQUAL,
    "==": _EQUAL,
    "!=": _BELOW | _ABOVE,
}


def read_watched_rules() -> tuple[list[WatchedRule], dict[int, str]]:
    """Return the rules to evaluate, and the error of each invalid rule by primary key."""
    rules = list(Rule.objects.filter(enabled=True, suspended=""))
    members = _read_members({name for rule in rules for name in rule.device_groups})
    watched, invalid = [], {}
    for rule in rules:
        try:
            spec = spec_of(rule)
        except InvalidFields as error:
            invalid[rule.pk] = str(error)
            continue
        if rule.device_ids or rule.device_groups:
            devices = frozenset[int]().union(*(members.get(name, ()) for name in rule.device_groups))
            watched.append(WatchedRule(rule, spec, frozenset(rule.device_ids), devices))
        else:
            watched.append(WatchedRule(rule, spec, None, None))
    return watched, invalid


def _read_members(groups: set[str]) -> dict[str, set[int]]:
    """Return the devices (primary keys) of each group."""
    members: dict[str, set[int]] = {}
    membership = Device.groups.through.objects.filter(devicegroup__name__in=groups)
    for name, device in membership.values_list("devicegroup__name", "device_id").iterator():
        members.setdefault(name, set()).add(device)
    return members


class StateInput(NamedTuple):
    """One input of a state: a series is evaluated by the condition at this position."""

    state: RuleSeriesState
    position: int


InputPoints = tuple[StateInput, Ints, Floats]  # with times and values


def _extend(column: NDArray[_Element], values: Sequence[float]) -> NDArray[_Element]:
    """Return a column with further values, if any, of the same type; numpy would make floats of an empty list."""
    return np.concatenate((column, np.array(values, column.dtype)))


class SimpleStates:
    """The states whose numbers are compared with a threshold one by one, as columns.

    Most points breach nothing while no alert is open. That is found out for all of them at once.
    """

    def __init__(self) -> None:
        self.states: list[RuleSeriesState] = []
        self.breaching_sides: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.thresholds: Floats = np.empty(0)
        self.watermarks: Ints = np.empty(0, np.int64)
        self.open: NDArray[np.bool_] = np.empty(0, np.bool_)

    def add(self, states: Sequence[RuleSeriesState]) -> None:
        for column, state in enumerate(states, len(self.states)):
            state.column = column
        conditions = [state.inputs[0].condition for state in states]
        self.states += states
        self.breaching_sides = _extend(self.breaching_sides, [_BREACHING_SIDES[each.op] for each in conditions])
        self.thresholds = _extend(self.thresholds, [float(each.threshold or 0) for each in conditions])
        self.watermarks = _extend(self.watermarks, [state.inputs[0].watermark for state in states])
        self.open = _extend(self.open, [state.lifecycle.is_open for state in states])

    def update(self, state: RuleSeriesState) -> None:
        """Copy watermark and alert of a state, after it was evaluated by itself, to the columns."""
        self.watermarks[state.column] = state.inputs[0].watermark
        self.open[state.column] = state.lifecycle.is_open

    def needs_evaluation(
        self, columns: Ints, first: Ints, last: Ints, low: Floats, high: Floats, oldest: int
    ) -> NDArray[np.bool_]:
        """Return which states have to be evaluated by themselves; the watermarks of all others are advanced.

        These are states with a breach among the new points, with an open alert, or with points that are out of order
        or older than `oldest` (µs). Per state: first and last time, minimum and maximum of its new points.
        """
        threshold = self.thresholds[columns]
        sides = (high > threshold) * np.uint8(_ABOVE) | (low < threshold) * np.uint8(_BELOW)
        sides |= ((low <= threshold) & (high >= threshold)) * np.uint8(_EQUAL)
        needed: NDArray[np.bool_] = (sides & self.breaching_sides[columns]) != 0
        needed |= self.open[columns] | (first <= self.watermarks[columns]) | (first < oldest)
        self.watermarks[columns[~needed]] = last[~needed]
        return needed


class WatchedSeries:
    """The series of a set of rules. States of unchanged rules are taken over from `previous`."""

    def __init__(
        self,
        rules: Sequence[WatchedRule],
        restored: RestoredAlerts | None = None,
        previous: "WatchedSeries | None" = None,
    ) -> None:
        self.rules = rules
        self._restored = restored or RestoredAlerts({}, {})
        self.states: dict[RuleSeriesKey, RuleSeriesState] = {}
        self.simple = SimpleStates()
        self.other_inputs: list[list[StateInput]] = []  # by row
        self._previous = previous.release_states() if previous is not None else {}
        self._rules_by_metric: dict[str, list[WatchedRule]] = {}
        for watched in rules:
            for metric in watched.spec.metrics:
                self._rules_by_metric.setdefault(metric, []).append(watched)
        self._rows: NDArray[np.int32] = np.full(4096, UNKNOWN, np.int32)  # by series id
        self._first: Ints = np.empty(0, np.int64)  # first column of the row's simple states
        self._count: Ints = np.empty(0, np.int64)  # number of the row's simple states

    def release_states(self) -> dict[RuleSeriesKey, RuleSeriesState]:
        """Return all states, with their watermarks updated from the columns, for a successor of this object."""
        for state, watermark in zip(self.simple.states, self.simple.watermarks.tolist(), strict=True):
            state.inputs[0].watermark, state.column = watermark, -1
        return self.states

    def close_alert(self, state: RuleSeriesState) -> None:
        """Record that the alert of a state was resolved manually. Earlier breaches no longer count."""
        if state.column >= 0:
            state.inputs[0].watermark = int(self.simple.watermarks[state.column])
        evaluated = max((source.watermark for source in state.inputs.values()), default=NEVER)
        state.alert, state.lifecycle.is_open = None, False
        state.lifecycle.ended = max(state.lifecycle.ended, evaluated)
        if state.column >= 0:
            self.simple.update(state)

    def add_all_inputs(self, connection: Connection, state: RuleSeriesState) -> None:
        """Look up all series of a composite's device, also those without new points."""
        self.rows(connection, find_series_of_metrics(connection, state.watched.spec.metrics, state.device))

    def all_series(self, connection: Connection) -> Ints:
        """Return every watched series, ascending."""
        series = find_series_of_metrics(connection, list(self._rules_by_metric))
        return series[self.rows(connection, series) >= 0] if len(series) else series

    def with_anomaly_rules(self, connection: Connection, series: Ints) -> set[int]:
        """Return those of some series (ascending) that an anomaly rule watches."""
        watched = set()
        rows = self.rows(connection, series).tolist() if len(series) else []
        for number, row in zip(series.tolist(), rows, strict=True):
            inputs = self.other_inputs[row] if row >= 0 else ()
            if any(state.inputs[position].condition.kind == "anomaly" for state, position in inputs):
                watched.add(number)
        return watched

    def simple_columns(self, rows: NDArray[np.int32]) -> tuple[Ints, Ints]:
        """Return (index into `rows`, column of SimpleStates) of every simple state of these rows."""
        counts = self._count[rows]
        indexes = np.repeat(np.arange(len(rows)), counts)
        offsets = np.arange(len(indexes)) - np.repeat(np.cumsum(counts) - counts, counts)
        return indexes, self._first[rows][indexes] + offsets

    def rows(self, connection: Connection, ids: Ints) -> NDArray[np.int32]:
        """Return the row of each series (ids ascending); UNWATCHED if no rule watches it."""
        if not len(ids):
            return np.empty(0, np.int32)
        if int(ids[-1]) >= len(self._rows):
            larger = np.full(max(2 * len(self._rows), int(ids[-1]) + 1), UNKNOWN, np.int32)
            larger[: len(self._rows)] = self._rows
            self._rows = larger
        rows = self._rows[ids]
        unknown = ids[rows == UNKNOWN]
        if len(unknown):
            self._add_series(connection, unknown)
            rows = self._rows[ids]
        return rows

    def _add_series(self, connection: Connection, ids: Ints) -> None:
        self._rows[ids] = UNWATCHED
        simple: list[RuleSeriesState] = []
        first, count = [], []
        for series in read_series_identities(connection, ids):
            inputs = self._inputs_of(series)
            if not inputs:
                continue
            self._rows[series.id] = len(self.other_inputs)
            own_simple = [state for state, _ in inputs if state.is_simple]
            self.other_inputs.append([each for each in inputs if not each.state.is_simple])
            first.append(len(self.simple.states) + len(simple))
            count.append(len(own_simple))
            simple += own_simple
        self.simple.add(simple)
        self._first, self._count = _extend(self._first, first), _extend(self._count, count)

    def _inputs_of(self, series: SeriesIdentity) -> list[StateInput]:
        inputs = []
        for watched in self._rules_by_metric.get(series.metric_name, ()):
            if not watched.covers(series.device, series.device_id):
                continue
            for position, condition in enumerate(watched.spec.conditions):
                if condition.metric == series.metric_name and condition.accepts(series.kind):
                    state = self._state_of(watched, series.device, series.device_id)
                    source = state.inputs.get(position)
                    if source is None or source.series != series.id:
                        state.inputs[position] = ConditionInput(condition, series.id)
                        state.has_history = False
                    inputs.append(StateInput(state, position))
        return inputs

    def _state_of(self, watched: WatchedRule, device: int, device_id: str) -> RuleSeriesState:
        rule = watched.rule
        key = rule.pk, device, rule.metric_name
        if key in self.states:
            return self.states[key]
        state = self._previous.get(key)
        if state is None or state.watched.rule.version != rule.version:
            state = RuleSeriesState(watched, device, device_id, rule.metric_name)
            state.composite = CompositeState() if watched.spec.kind == "composite" else None
            self._restored.apply(state)
        state.watched = watched
        self.states[key] = state
        return state


def select_inputs(
    watched: WatchedSeries, connection: Connection, columns: Columns, oldest: int
) -> tuple[list[InputPoints], int]:
    """Return the inputs that have to be evaluated by themselves, and how many of the points are watched."""
    rows = watched.rows(connection, columns.ids)
    positions = np.flatnonzero(rows >= 0)
    if not len(positions):
        return [], 0
    selected = _select_simple(watched, columns, positions, rows[positions], oldest) if columns.is_numeric else []
    for position, row in zip(positions.tolist(), rows[positions].tolist(), strict=True):
        for source in watched.other_inputs[row]:
            selected.append((source, *_read_points(columns, position, source)))
    return selected, int(np.diff(columns.offsets)[positions].sum())


def _select_simple(
    watched: WatchedSeries, columns: Columns, positions: Ints, rows: NDArray[np.int32], oldest: int
) -> list[InputPoints]:
    simple = watched.simple
    indexes, state_columns = watched.simple_columns(rows)
    if not len(indexes):
        return []
    starts = columns.offsets[:-1]
    low = np.minimum.reduceat(columns.values, starts)[positions][indexes]
    high = np.maximum.reduceat(columns.values, starts)[positions][indexes]
    first = columns.times[starts[positions]][indexes]
    last = columns.times[columns.offsets[1:][positions] - 1][indexes]
    needed = simple.needs_evaluation(state_columns, first, last, low, high, oldest)
    selected = []
    for position, column in zip(positions[indexes[needed]].tolist(), state_columns[needed].tolist(), strict=True):
        state = simple.states[column]
        state.inputs[0].watermark = int(simple.watermarks[column])
        source = StateInput(state, 0)
        selected.append((source, *_read_points(columns, position, source)))
    return selected


def _read_points(columns: Columns, position: int, source: StateInput) -> tuple[Ints, Floats]:
    return source.state.inputs[source.position].read_points(columns.slice_series(position, position + 1))
