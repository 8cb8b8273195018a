"""The devices and series that a rule is evaluated on, as far as they are visible to a caller."""

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Q

from alerts.conditions.spec import ANY_METRIC, SECOND, RuleSpec
from metrics.models import Device, DeviceGroup, Series
from metrics.models.devices import DeviceQuerySet
from metrics.query.result import ResolvedSeries
from metrics.storage.format.codec import Kind
from rest.caller import Caller
from rest.errors import InvalidField

MAX_DEVICES = 500
MAX_SERIES = 2_000


@dataclass(frozen=True, slots=True)
class RuleScope:
    """The devices of a rule that are visible to a caller; all visible ones if it names none."""

    caller: Caller
    device_ids: Collection[str] = ()
    device_groups: Collection[str] = ()

    @property
    def names_devices(self) -> bool:
        return bool(self.device_ids or self.device_groups)

    def devices(self) -> DeviceQuerySet:
        visible = Device.objects.visible_to(self.caller)
        if not self.names_devices:
            return visible
        named = DeviceGroup.objects.visible_to(self.caller).filter(name__in=self.device_groups)
        groups = Device.objects.in_groups(named)
        return visible.filter(Q(device_id__in=self.device_ids) | Q(pk__in=groups.values("pk")))


@dataclass(frozen=True, slots=True)
class RuleSeries:
    """A device and metric that a rule has alerts of.

    ids       evaluated series: one per condition (None: not stored); of an absence rule all with points
    expected  of an absence rule: µs between points
    """

    device_id: str
    metric: str
    ids: tuple[int | None, ...]
    expected: int = 0

    @property
    def has_points(self) -> bool:
        return any(number is not None for number in self.ids)


def find_rule_series(spec: RuleSpec, scope: RuleScope) -> tuple[list[RuleSeries], list[ResolvedSeries]]:
    """Return what the rule has alerts of, by device, and all stored series of these. Raises InvalidField."""
    stored = _find_stored_series(spec, scope)
    rule_series = _absence_series(spec, scope, stored) if spec.kind == "absence" else _condition_series(spec, stored)
    if len(rule_series) > MAX_DEVICES:
        raise InvalidField("device_ids", f"more than {MAX_DEVICES} devices; name up to {MAX_DEVICES} of them")
    return rule_series, stored


def _find_stored_series(spec: RuleSpec, scope: RuleScope) -> list[ResolvedSeries]:
    series = Series.objects.filter(device__in=scope.devices()).order_by("device__device_id", "metric_name", "id")
    if spec.metric != ANY_METRIC:
        series = series.filter(metric_name__in=spec.metrics or [spec.metric])
    rows = list(series.values_list("id", "kind", "device__device_id", "metric_name")[: MAX_SERIES + 1])
    if len(rows) > MAX_SERIES:
        raise InvalidField("device_ids", f"more than {MAX_SERIES:,} series; name fewer devices")
    return [ResolvedSeries(number, Kind(kind), device_id, metric) for number, kind, device_id, metric in rows]


def _condition_series(spec: RuleSpec, stored: list[ResolvedSeries]) -> list[RuleSeries]:
    by_device: dict[str, list[ResolvedSeries]] = {}
    for series in stored:
        by_device.setdefault(series.device_id, []).append(series)
    rule_series = []
    for device_id, candidates in by_device.items():
        ids = tuple(
            next(
                (
                    candidate.id
                    for candidate in candidates
                    if candidate.metric_name == condition.metric and condition.accepts(candidate.kind)
                ),
                None,
            )
            for condition in spec.conditions
        )
        if any(number is not None for number in ids):
            rule_series.append(RuleSeries(device_id, spec.metric, ids))
    return rule_series


def _absence_series(spec: RuleSpec, scope: RuleScope, stored: list[ResolvedSeries]) -> list[RuleSeries]:
    """Return the devices that data is expected from: all that the rule names, else those with the metric."""
    by_device: dict[str, list[int]] = {}
    for series in stored:
        by_device.setdefault(series.device_id, []).append(series.id)
    devices = scope.devices().order_by("device_id")
    if not scope.names_devices and spec.metric != ANY_METRIC:
        devices = devices.filter(device_id__in=list(by_device))
    if spec.expected is None:
        devices = devices.filter(expected_interval__gt=0)
    rows = devices.values_list("device_id", "expected_interval")[: MAX_DEVICES + 1]
    return [
        RuleSeries(
            device_id, spec.metric, tuple(by_device.get(device_id, ())), spec.expected or (interval or 0) * SECOND
        )
        for device_id, interval in rows
    ]
