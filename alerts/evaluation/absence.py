"""No-data checks: devices and metrics without a point within their expected interval, by the clock."""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alerts.conditions.spec import ANY_METRIC, SECOND
from alerts.evaluation.restore_state import read_last_alerts
from alerts.evaluation.rule_series_state import RuleSeriesKey, WatchedRule
from metrics.query.accumulators import Ints
from metrics.query.last_seen import read_newest_times
from metrics.query.series_lookup import DeviceInterval, read_device_intervals, read_series_devices
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns

MIN_REFRESH_PERIOD = 3.0  # seconds between reads of devices, series and intervals
REFRESH_COST_FACTOR = 20  # the period is at least this many times as long as a read takes


@dataclass(slots=True, eq=False)
class AbsentDevice:
    """A device, or a metric of it, without data after its deadline. Times in µs; `last_seen` 0: never."""

    watched: WatchedRule
    device: int
    device_id: str
    last_seen: int
    expected: int
    deadline: int

    @property
    def key(self) -> RuleSeriesKey:
        return self.watched.rule.pk, self.device, self.watched.rule.metric_name


@dataclass(slots=True)
class _ExpectedDevices:
    """The devices that one rule expects data from, as columns.

    expected  µs between points
    since     µs from which data is expected of a device without any
    series    of all devices, those of device i at starts[i] to starts[i + 1]
    """

    watched: WatchedRule
    devices: Ints
    names: list[str]
    expected: Ints
    since: Ints
    series: Ints
    starts: Ints

    def last_seen(self, newest: Ints) -> Ints:
        """Return when each device was last seen (µs, 0: never); `newest` is by series id."""
        times = np.append(newest[self.series], 0)
        maximum = np.maximum.reduceat(times, np.minimum(self.starts[:-1], len(times) - 1))
        return np.where(np.diff(self.starts) > 0, maximum, 0)


@dataclass(slots=True)
class AbsenceChecks:
    """The no-data rules.

    floor  µs; no device is absent before, since nothing was stored for a while
    """

    floor: int = 0
    rules: list[WatchedRule] = field(default_factory=list)
    _newest: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # by series id
    _has_newest: bool = False
    _expected: list[_ExpectedDevices] = field(default_factory=list)
    _next_refresh: float = 0.0
    _alerted: dict[RuleSeriesKey, int] = field(default_factory=dict)  # when the last alert was triggered

    def watch(self, rules: Iterable[WatchedRule]) -> None:
        """Replace the rules."""
        self.rules = [watched for watched in rules if watched.spec.kind == "absence"]
        last_alerts = read_last_alerts([watched.rule.pk for watched in self.rules])
        self._alerted = {key: triggered for key, (triggered, _) in last_alerts.items()}
        self._next_refresh = 0.0

    def add_points(self, columns: Columns) -> None:
        """Advance the newest times of series by new points."""
        if not self._has_newest:
            return
        self._extend(int(columns.ids[-1]))
        np.maximum.at(self._newest, columns.ids, columns.times[columns.offsets[1:] - 1])

    def check(
        self, connection: Connection, now: int, open_alerts: Collection[RuleSeriesKey]
    ) -> tuple[list[AbsentDevice], list[tuple[RuleSeriesKey, int]]]:
        """Return the absent devices without an open alert, and the open alerts to resolve with the last-seen time.

        Times in µs.
        """
        if not self.rules:
            return [], []
        if time.monotonic() >= self._next_refresh:
            self._refresh(connection)
        absent: list[AbsentDevice] = []
        recovered: list[tuple[RuleSeriesKey, int]] = []
        for expected in self._expected:
            spec = expected.watched.spec
            last_seen = expected.last_seen(self._newest)
            deadline = np.maximum(np.where(last_seen > 0, last_seen, expected.since), self.floor)
            deadline += expected.expected + spec.grace
            is_late = deadline < now
            for device in self._absent_devices(expected, is_late, last_seen, deadline):
                if device.key not in open_alerts and self._may_alert(device, now):
                    absent.append(device)
            if spec.auto_resolve and open_alerts:
                recovered += self._recovered(expected, ~is_late & (last_seen > 0), last_seen, open_alerts)
        return absent, recovered

    def record_alerts(self, absent: Iterable[AbsentDevice]) -> None:
        """Remember that these devices have alerts."""
        self._alerted |= {device.key: device.deadline for device in absent}

    def _may_alert(self, device: AbsentDevice, now: int) -> bool:
        """Whether this is a new absence. An absence whose alert was resolved manually opens no second alert."""
        alerted = self._alerted.get(device.key)
        return alerted is None or (device.deadline > alerted and now >= alerted + device.watched.spec.cooldown)

    @staticmethod
    def _absent_devices(
        expected: _ExpectedDevices, is_late: NDArray[np.bool_], last_seen: Ints, deadline: Ints
    ) -> list[AbsentDevice]:
        return [
            AbsentDevice(
                expected.watched,
                int(expected.devices[row]),
                expected.names[row],
                int(last_seen[row]),
                int(expected.expected[row]),
                int(deadline[row]),
            )
            for row in np.flatnonzero(is_late).tolist()
        ]

    @staticmethod
    def _recovered(
        expected: _ExpectedDevices, is_on_time: NDArray[np.bool_], last_seen: Ints, alerts: Collection[RuleSeriesKey]
    ) -> list[tuple[RuleSeriesKey, int]]:
        rule = expected.watched.rule
        alerting = [device for pk, device, metric in alerts if (pk, metric) == (rule.pk, rule.metric_name)]
        rows = np.flatnonzero(is_on_time & np.isin(expected.devices, np.array(alerting, np.int64)))
        return [((rule.pk, int(expected.devices[row]), rule.metric_name), int(last_seen[row])) for row in rows.tolist()]

    def _refresh(self, connection: Connection) -> None:
        began = time.monotonic()
        if not self._has_newest:
            series, newest = read_newest_times(connection)
            if len(series):
                self._extend(int(series[-1]))
                self._newest[series] = newest
            self._has_newest = True
        devices = _DeviceColumns(read_device_intervals(connection))
        expected = [devices.expected_by(connection, watched) for watched in self.rules]
        self._expected = [devices_of_rule for devices_of_rule in expected if devices_of_rule is not None]
        for devices_of_rule in self._expected:
            if len(devices_of_rule.series):
                self._extend(int(devices_of_rule.series.max()))
        took = time.monotonic() - began
        self._next_refresh = time.monotonic() + max(MIN_REFRESH_PERIOD, REFRESH_COST_FACTOR * took)

    def _extend(self, series: int) -> None:
        """Make room for a series id."""
        if series >= len(self._newest):
            self._newest = np.append(self._newest, np.zeros(series + 1024 - len(self._newest), np.int64))


class _DeviceColumns:
    """All devices, as columns; times in µs."""

    def __init__(self, devices: list[DeviceInterval]) -> None:
        self.names = [device.device_id for device in devices]
        self.pks = np.array([device.pk for device in devices], np.int64)
        self.expected = np.array([device.expected_interval for device in devices], np.int64) * SECOND
        self.created = np.array([device.created_at for device in devices], np.int64)
        self.has_no_series = np.array([device.has_no_series for device in devices], np.bool_)

    def expected_by(self, connection: Connection, watched: WatchedRule) -> _ExpectedDevices | None:
        """Return the devices that a rule expects data from; None if there are none.

        A rule that names no devices expects data from those with its metric and from those that never sent any.
        """
        metric = watched.spec.metric
        pairs = read_series_devices(connection, None if metric == ANY_METRIC else metric)
        expected = self.expected if watched.spec.expected is None else np.full(len(self.pks), watched.spec.expected)
        selected = expected > 0
        if watched.devices is not None:
            covered = [watched.covers(*device) for device in zip(self.pks.tolist(), self.names, strict=True)]
            selected &= np.array(covered, np.bool_)
        elif metric != ANY_METRIC:
            selected &= np.isin(self.pks, pairs[:, 1]) | self.has_no_series
        rows = np.flatnonzero(selected)
        if not len(rows):
            return None
        devices = self.pks[rows]
        pairs = pairs[np.isin(pairs[:, 1], devices)]
        starts = np.append(pairs[:, 1].searchsorted(devices), len(pairs))
        rule_changed = int(watched.rule.updated_at.timestamp() * SECOND)
        since = np.maximum(self.created[rows], rule_changed)
        names = [self.names[row] for row in rows.tolist()]
        return _ExpectedDevices(watched, devices, names, expected[rows], since, pairs[:, 0], starts)
