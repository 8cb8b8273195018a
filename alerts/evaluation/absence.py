"""Devices and metrics that are not heard of: told by the clock, from what was heard last of every series."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alerts.conditions.spec import ANY_METRIC, SECOND
from alerts.evaluation.restore_state import last_alerts
from alerts.evaluation.rule_series_state import Key, Watched
from metrics.query.accumulators import Ints
from metrics.query.last_seen import read_newest_times
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns

PERIOD = 3.0  # seconds between looks for new devices, series and intervals…
SHARE = 20  # … and so many times as long as such a look took: of a large fleet not one after the other
_DEVICES = """
SELECT id, device_id, coalesce(expected_interval, 0), (extract(epoch FROM created_at) * 1000000)::bigint,
    NOT EXISTS (SELECT FROM metrics_series s WHERE s.device_id = d.id) FROM metrics_device d ORDER BY id
"""
_SERIES = (
    "SELECT id, device_id FROM metrics_series WHERE %(metric)s = '*' OR metric_name = %(metric)s ORDER BY device_id"
)


@dataclass(slots=True, eq=False)
class Silent:
    """A device that has not been heard of in time; times in µs, `heard` 0 where it never was."""

    watched: Watched
    device: int
    device_id: str
    heard: int
    expected: int
    deadline: int

    @property
    def key(self) -> Key:
        return self.watched.rule.pk, self.device, self.watched.rule.metric_name


@dataclass(slots=True)
class _Fleet:
    """The devices that a rule expects to hear of, as columns; series of device i from starts[i] to starts[i + 1]."""

    watched: Watched
    devices: Ints
    names: list[str]
    expected: Ints
    since: Ints
    series: Ints
    starts: Ints

    def heard(self, newest: Ints) -> Ints:
        """When each was last heard, 0: never."""
        found = np.append(newest[self.series], 0)
        some = np.maximum.reduceat(found, np.minimum(self.starts[:-1], len(found) - 1))
        return np.where(np.diff(self.starts) > 0, some, 0)


@dataclass(slots=True)
class Absence:
    """Rules of absence over a fleet.

    floor  µs: where nothing at all was stored for a while, nobody was absent before
    """

    floor: int = 0
    rules: list[Watched] = field(default_factory=list)
    _newest: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # by series
    _fleets: list[_Fleet] = field(default_factory=list)
    _next: float = 0.0
    _known: bool = False
    _told: dict[Key, int] = field(default_factory=dict)  # when the last alert of each was triggered

    def watch(self, rules: Iterable[Watched]) -> None:
        """From now on, these."""
        self.rules = [one for one in rules if one.spec.kind == "absence"]
        self._told = {key: last for key, (last, _) in last_alerts([one.rule.pk for one in self.rules]).items()}
        self._next = 0.0

    def hear(self, columns: Columns) -> None:
        """Points came."""
        if not self._known:
            return
        self._reach(int(columns.ids[-1]))
        last = columns.times[columns.offsets[1:] - 1]
        np.maximum.at(self._newest, columns.ids, last)

    def look(
        self, connection: Connection, now: int, is_open: Iterable[Key]
    ) -> tuple[list[Silent], list[tuple[Key, int]]]:
        """At a time (µs): who is absent and has no open alert, and whose open alert is over, with when it was heard."""
        if not self.rules:
            return [], []
        if time.monotonic() >= self._next:
            self._renew(connection)
        known = set(is_open)
        absent: list[Silent] = []
        back: list[tuple[Key, int]] = []
        for fleet in self._fleets:
            heard = fleet.heard(self._newest)
            deadline = np.maximum(np.where(heard > 0, heard, fleet.since), self.floor) + fleet.expected
            deadline += fleet.watched.spec.grace
            is_late = deadline < now
            absent += [
                one
                for one in self._late(fleet, np.flatnonzero(is_late), heard, deadline)
                if one.key not in known and self._may_be_told(one, now)
            ]
            if fleet.watched.spec.auto_resolve and known:
                back += self._back(fleet, ~is_late & (heard > 0), heard, known)
        return absent, back

    def told(self, absent: Iterable[Silent]) -> None:
        """There are alerts of these."""
        self._told |= {one.key: one.deadline for one in absent}

    def _may_be_told(self, one: Silent, now: int) -> bool:
        """A new alert is for a new absence: who has closed an alert is not told of the same one again."""
        before = self._told.get(one.key)
        return before is None or (one.deadline > before and now >= before + one.watched.spec.cooldown)

    def _late(self, fleet: _Fleet, places: Ints, heard: Ints, deadline: Ints) -> Iterator[Silent]:
        for at in places.tolist():
            numbers = (int(column[at]) for column in (heard, fleet.expected, deadline))
            yield Silent(fleet.watched, int(fleet.devices[at]), fleet.names[at], *numbers)

    def _back(self, fleet: _Fleet, well: NDArray[np.bool_], heard: Ints, known: set[Key]) -> list[tuple[Key, int]]:
        rule = fleet.watched.rule
        wanted = np.array(
            [device for pk, device, metric in known if (pk, metric) == (rule.pk, rule.metric_name)], np.int64
        )
        places = np.flatnonzero(well & np.isin(fleet.devices, wanted))
        return [((rule.pk, int(fleet.devices[at]), rule.metric_name), int(heard[at])) for at in places.tolist()]

    def _renew(self, connection: Connection) -> None:
        began = time.monotonic()
        if not self._known:
            numbers, newest = read_newest_times(connection)
            if len(numbers):
                self._reach(int(numbers[-1]))
                self._newest[numbers] = newest
            self._known = True
        rows = connection.execute(_DEVICES).fetchall()
        devices = _Devices(rows)
        self._fleets = [fleet for one in self.rules if (fleet := devices.fleet(connection, one)) is not None]
        for fleet in self._fleets:
            if len(fleet.series):
                self._reach(int(fleet.series.max()))
        self._next = time.monotonic() + max(PERIOD, SHARE * (time.monotonic() - began))

    def _reach(self, series: int) -> None:
        if series >= len(self._newest):
            self._newest = np.append(self._newest, np.zeros(series + 1024 - len(self._newest), np.int64))


class _Devices:
    """All devices, as columns."""

    def __init__(self, rows: list[tuple[int, str, int, int, bool]]) -> None:
        self.names = [row[1] for row in rows]
        self.numbers = np.array([row[0] for row in rows], np.int64)
        self.expected = np.array([row[2] for row in rows], np.int64) * SECOND
        self.created = np.array([row[3] for row in rows], np.int64)
        self.unheard = np.array([row[4] for row in rows], np.bool_)

    def fleet(self, connection: Connection, watched: Watched) -> _Fleet | None:
        """Those that a rule expects to hear of: where it names none, those with the metric and those never heard."""
        metric = watched.spec.metric
        pairs = np.array(connection.execute(_SERIES, {"metric": metric}).fetchall(), np.int64).reshape(-1, 2)
        expected = self.expected if watched.spec.expected is None else np.full(len(self.numbers), watched.spec.expected)
        wanted = expected > 0
        if watched.devices is None:
            if metric != ANY_METRIC:
                wanted &= np.isin(self.numbers, pairs[:, 1]) | self.unheard
        else:
            wanted &= np.array(
                [watched.covers(*one) for one in zip(self.numbers.tolist(), self.names, strict=True)], np.bool_
            )
        places = np.flatnonzero(wanted)
        if not len(places):
            return None
        numbers = self.numbers[places]
        pairs = pairs[np.isin(pairs[:, 1], numbers)]
        starts = np.append(pairs[:, 1].searchsorted(numbers), len(pairs))
        began = int(watched.rule.updated_at.timestamp() * SECOND)
        since = np.maximum(self.created[places], began)
        return _Fleet(
            watched, numbers, [self.names[at] for at in places.tolist()], expected[places], since, pairs[:, 0], starts
        )
