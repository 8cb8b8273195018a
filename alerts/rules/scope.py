"""What a rule is about, as far as somebody sees it: devices, and the series of theirs that it judges."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from django.db.models import Q

from alerts.conditions.spec import ANY_METRIC, SECOND, Spec
from metrics.models import Device, DeviceGroup, Series
from metrics.models.devices import DeviceQuerySet
from metrics.query.result import ResolvedSeries
from metrics.storage.format.codec import Kind
from rest.caller import Caller
from rest.errors import InvalidField

MOST_SUBJECTS: Final = 500
MOST_SERIES: Final = 2_000


@dataclass(frozen=True, slots=True)
class Scope:
    """The devices that a rule is about, of those that a caller sees; all of them where it names none."""

    caller: Caller
    device_ids: Collection[str] = ()
    device_groups: Collection[str] = ()

    @property
    def is_named(self) -> bool:
        return bool(self.device_ids or self.device_groups)

    def devices(self) -> DeviceQuerySet:
        seen = Device.objects.visible_to(self.caller)
        if not self.is_named:
            return seen
        groups = Device.objects.in_groups(DeviceGroup.objects.filter(name__in=self.device_groups))
        return seen.filter(Q(device_id__in=self.device_ids) | Q(pk__in=groups.values("pk")))


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule has alerts of: a metric of a device.

    series    those that are judged: one for each condition (None: there is none); with absence all that are heard
    expected  with absence: µs between measurements
    """

    device_id: str
    metric: str
    series: tuple[int | None, ...]
    expected: int = 0

    @property
    def is_heard(self) -> bool:
        return any(number is not None for number in self.series)


def subjects(spec: Spec, scope: Scope) -> tuple[list[Subject], list[ResolvedSeries]]:
    """What a rule has alerts of, by device; and all series of it. Raises InvalidField where that is too much."""
    asked = _series(spec, scope)
    found = _expected(spec, scope, asked) if spec.kind == "absence" else _judged(spec, asked)
    if len(found) > MOST_SUBJECTS:
        raise InvalidField("device_ids", f"over {MOST_SUBJECTS} devices; name those that are to be looked back at")
    return found, asked


def _series(spec: Spec, scope: Scope) -> list[ResolvedSeries]:
    found = Series.objects.filter(device__in=scope.devices()).order_by("device__device_id", "metric_name", "id")
    if spec.metric != ANY_METRIC:
        found = found.filter(metric_name__in=spec.metrics or [spec.metric])
    rows = list(found.values_list("id", "kind", "device__device_id", "metric_name")[: MOST_SERIES + 1])
    if len(rows) > MOST_SERIES:
        raise InvalidField("device_ids", f"over {MOST_SERIES:,} series; name the devices that are to be looked back at")
    return [ResolvedSeries(number, Kind(kind), device_id, metric) for number, kind, device_id, metric in rows]


def _judged(spec: Spec, asked: list[ResolvedSeries]) -> list[Subject]:
    by_device: dict[str, list[ResolvedSeries]] = {}
    for one in asked:
        by_device.setdefault(one.device_id, []).append(one)
    found = []
    for device_id, some in by_device.items():
        series = tuple(
            next((one.id for one in some if one.metric_name == each.metric and each.takes(one.kind)), None)
            for each in spec.conditions
        )
        if any(number is not None for number in series):
            found.append(Subject(device_id, spec.metric, series))
    return found


def _expected(spec: Spec, scope: Scope, asked: list[ResolvedSeries]) -> list[Subject]:
    """The devices that something is expected of: all that the rule names, else those with the metric."""
    heard: dict[str, list[int]] = {}
    for one in asked:
        heard.setdefault(one.device_id, []).append(one.id)
    devices = scope.devices().order_by("device_id")
    if not scope.is_named and spec.metric != ANY_METRIC:
        devices = devices.filter(device_id__in=list(heard))
    if spec.expected is None:
        devices = devices.filter(expected_interval__gt=0)
    return [
        Subject(device_id, spec.metric, tuple(heard.get(device_id, ())), spec.expected or (interval or 0) * SECOND)
        for device_id, interval in devices.values_list("device_id", "expected_interval")[: MOST_SUBJECTS + 1]
    ]
