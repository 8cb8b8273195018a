"""Patterns: planted patterns are detected, random alerts are not patterns."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.models import Alert, Pattern
from alerts.patterns.detect import (
    DAY,
    HOUR,
    SECOND,
    AlertColumns,
    DetectedPattern,
    detect_co_occurrence,
    detect_flapping,
    detect_recurring_times,
    detect_sequences,
)
from alerts.patterns.refresh import MAX_ALERTS, count_new_patterns, refresh_patterns
from alerts.rules import lifecycle
from alerts.tasks import find_patterns
from metrics.models import Device, DeviceGroup

MINUTE = 60 * SECOND
MONDAY = 20_409 * DAY  # 2025-11-17
AlertRow = tuple[int, int, int]  # µs, rule, device


def make_columns(rows: list[AlertRow]) -> AlertColumns:
    return AlertColumns(*np.array(rows, np.int64).reshape(-1, 3).T)


def detect_all(alerts: AlertColumns) -> list[DetectedPattern]:
    patterns: list[Iterator[DetectedPattern]] = [
        detect_flapping(alerts),
        detect_sequences(alerts, alerts.devices, "device"),
    ]
    patterns += [detect_recurring_times(alerts), detect_co_occurrence(alerts)]
    return sorted((pattern for detected in patterns for pattern in detected), key=str)


def make_random_columns(seed: int, alerts: int, rule_count: int, devices: int, days: int = 30) -> AlertColumns:
    """Return alerts at random times, of random rules and devices."""
    rng = np.random.default_rng(seed)
    times = MONDAY + rng.integers(0, days * DAY, alerts)
    return AlertColumns(times, rng.integers(1, rule_count + 1, alerts), rng.integers(1, devices + 1, alerts))


def make_random_rows(*shape: int) -> list[AlertRow]:
    alerts = make_random_columns(*shape)
    return list(zip(alerts.times.tolist(), alerts.rules.tolist(), alerts.devices.tolist(), strict=True))


def detect_kind(kind: str, alerts: AlertColumns) -> list[DetectedPattern]:
    return [pattern for pattern in detect_all(alerts) if pattern.kind == kind]


# --- each kind --------------------------------------------------------------------------------------


def test_four_alerts_of_a_series_within_an_hour_are_flapping() -> None:
    rows = [(MONDAY + minute * MINUTE, 1, 7) for minute in (0, 20, 40, 60, 500, 700)]
    rows += [(MONDAY + minute * MINUTE, 1, 8) for minute in (0, 20, 40, 61)]  # a minute over the hour
    rows += [(MONDAY + minute * MINUTE, rule, 9) for minute, rule in ((0, 1), (1, 2), (2, 1), (3, 2), (4, 1))]
    assert list(detect_flapping(make_columns(rows))) == [
        DetectedPattern("flapping", {"rule": 1, "device": 7}, 4, 6, (7,))
    ]


def test_sequence_on_a_device_is_detected_with_its_confidence() -> None:
    rows = make_random_rows(1, 300, 5, 5)
    starts = [MONDAY + day * DAY + day * 47 * MINUTE for day in range(16)]
    rows += [(start, 11, 6) for start in starts]
    rows += [(start + (2 + day % 7) * MINUTE, 12, 6) for day, start in enumerate(starts) if day not in (3, 9)]
    patterns = detect_kind("following", make_columns(rows))
    assert patterns == [DetectedPattern("following", {"first": 11, "then": 12, "device": 6}, 14, 16, (6,))]
    assert patterns[0].confidence == 14 / 16


def test_alerts_over_ten_minutes_apart_or_on_other_devices_are_no_sequence() -> None:
    starts = [MONDAY + day * DAY + day * 47 * MINUTE for day in range(16)]
    late = [(start, 1, 1) for start in starts] + [(start + 10 * MINUTE + 1, 2, 1) for start in starts]
    other_device = [(start, 1, 1) for start in starts] + [(start + MINUTE, 2, 2) for start in starts]
    assert not detect_kind("following", make_columns(late)) and not detect_kind("following", make_columns(other_device))


def test_sequence_in_a_group_involves_another_device() -> None:
    starts = [MONDAY + day * DAY + day * 47 * MINUTE for day in range(8)]
    rows = [(start, 1, day % 3) for day, start in enumerate(starts)] + [(start + MINUTE, 2, 5) for start in starts]
    alerts = make_columns(rows)
    (pattern,) = detect_sequences(alerts, np.full(len(alerts), 40), "group")
    assert pattern == DetectedPattern("following", {"first": 1, "then": 2, "group": 40}, 8, 8, (0, 1, 2, 5))
    same_device = make_columns([(start, 1, 5) for start in starts] + [(start + MINUTE, 2, 5) for start in starts])
    assert not list(detect_sequences(same_device, np.full(len(same_device), 40), "group"))


def test_burst_counts_once_and_permanent_alerts_are_no_sequence() -> None:
    starts = [MONDAY + day * DAY for day in range(6)]
    bursts = [(start + second * SECOND, 1, 1) for start in starts for second in range(0, 300, 10)]
    bursts += [(start + 301 * SECOND, 2, 1) for start in starts]
    [pattern] = detect_kind("following", make_columns(bursts))
    assert (pattern.support, pattern.cases) == (6, 6)  # of 180 alerts
    permanent = [(MONDAY + step * 11 * MINUTE, 1, 1) for step in range(4000)]
    permanent += [(MONDAY + step * 17 * HOUR, 2, 1) for step in range(40)]
    assert not detect_kind("following", make_columns(permanent))  # rule 1 is within ten minutes of any alert


def test_rule_with_one_recurring_hour_is_detected() -> None:
    rows = [(MONDAY + day * DAY + 3 * HOUR + day * MINUTE, 1, day % 2) for day in range(14)]
    rows += [(MONDAY + day * DAY + hour * HOUR, 1, 5) for day, hour in ((1, 8), (2, 15), (5, 22))]
    rows += [(MONDAY + day * DAY + 12 * HOUR, 2, 1) for day in range(3)]  # no more often than by chance
    assert detect_kind("hour", make_columns(rows)) == [DetectedPattern("hour", {"rule": 1, "hour": 3}, 14, 17, (0, 1))]


def test_single_burst_is_no_recurring_hour() -> None:
    night = [(MONDAY + 3 * HOUR + second * SECOND, 1, second) for second in range(3000)]
    assert not [*detect_recurring_times(make_columns(night))]


def test_rule_with_one_recurring_weekday_is_detected() -> None:
    rows = [(MONDAY + week * 7 * DAY + hour * HOUR, 1, 4) for week in range(4) for hour in (2, 9, 17)]
    rows += [(MONDAY + 3 * DAY, 1, 5), (MONDAY + 28 * DAY - HOUR, 2, 6)]
    pattern = DetectedPattern("weekday", {"rule": 1, "weekday": 0}, 4, 5, (4,))
    assert datetime.fromtimestamp(MONDAY / SECOND, UTC).weekday() == 0
    assert detect_kind("weekday", make_columns(rows)) == [pattern]


def test_devices_alerting_within_a_minute_are_one_co_occurrence() -> None:
    rows = make_random_rows(2, 60, 3, 4)
    starts = [MONDAY + day * DAY + day * 47 * MINUTE for day in range(9)]
    rows += [(start + device * SECOND, 1 + device % 2, device) for start in starts for device in (20, 30, 45)]
    rows += [(starts[0] + HOUR, 1, 20), (starts[1] + HOUR, 1, 45)]
    assert detect_kind("together", make_columns(rows)) == [DetectedPattern("together", {}, 9, 11, (20, 30, 45))]


def test_devices_over_a_minute_apart_do_not_co_occur() -> None:
    starts = [MONDAY + day * DAY for day in range(9)]
    rows = [(start + device * (MINUTE + 1), 1, device) for start in starts for device in (0, 1)]
    assert not detect_kind("together", make_columns(rows))


# --- random alerts, order, size ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(40, 2, 2), (400, 3, 2), (2_000, 10, 10), (20_000, 50, 200), (20_000, 5, 2000)])
def test_random_alerts_have_no_pattern_but_flapping(shape: tuple[int, int, int]) -> None:
    for seed in range(10):
        alerts = make_random_columns(seed, *shape)
        # Four random alerts of a series within an hour count as flapping, too.
        flaps = {pattern.subject["device"] for pattern in detect_flapping(alerts)}
        assert {pattern.kind for pattern in detect_all(alerts)} <= ({"flapping"} if flaps else set()), seed


def test_no_alerts_have_no_patterns() -> None:
    empty = make_columns([])
    assert detect_all(empty) == []
    assert list(detect_sequences(empty, np.empty(0, np.int64), "group")) == []


def test_rare_random_alerts_beside_frequent_ones_are_no_sequence() -> None:
    for seed in range(10):
        alerts = make_random_columns(seed, 20_000, 1, 10)
        weights = 1 / np.arange(1, 13) ** 2
        rules = np.random.default_rng(seed + 100).choice(np.arange(1, 13), len(alerts), p=weights / weights.sum())
        assert not list(
            detect_sequences(AlertColumns(alerts.times, rules, alerts.devices), alerts.devices, "device")
        ), seed


def test_few_coinciding_alerts_have_no_pattern() -> None:
    third_in_one_hour = [(MONDAY + day * DAY + (3 if day < 5 else day) * HOUR, 1, 1) for day in range(16)]
    # At most one random case in a hundred for the 24 hours of a rule.
    assert not detect_kind("hour", make_columns(third_in_one_hour))
    for seed in range(40):
        alerts = make_random_columns(seed, 120, 1, 10)
        assert not list(
            detect_co_occurrence(AlertColumns(MONDAY + alerts.times % HOUR, alerts.rules, alerts.devices))
        ), seed


rows_of_few = st.lists(
    st.tuples(st.integers(0, 40).map(lambda step: MONDAY + step * 7 * MINUTE), st.integers(1, 3), st.integers(1, 3)),
    max_size=60,
)


@pytest.mark.slow
@given(rows=rows_of_few, shuffle=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_patterns_do_not_depend_on_alert_order(rows: list[AlertRow], shuffle: Any) -> None:
    planted = [(MONDAY + day * DAY + offset, rule, 9) for day in range(8) for offset, rule in ((0, 1), (MINUTE, 2))]
    rows = rows + planted
    expected = detect_all(make_columns(rows))
    assert expected
    shuffle.shuffle(rows)
    assert detect_all(make_columns(rows)) == expected


@pytest.mark.slow
@given(rows=rows_of_few)
@settings(max_examples=150, deadline=None)
def test_flapping_equals_reference_count(rows: list[AlertRow]) -> None:
    by_series: dict[tuple[int, int], list[int]] = {}
    for triggered_at, rule, device in sorted(rows):
        by_series.setdefault((rule, device), []).append(triggered_at)
    expected = {}
    for series, times in by_series.items():
        flaps = {
            index
            for first in range(len(times) - 3)
            if times[first + 3] - times[first] <= HOUR
            for index in range(first, first + 4)
        }
        if flaps:
            expected[series] = (len(flaps), len(times))
    patterns = detect_flapping(make_columns(rows))
    assert {
        (pattern.subject["rule"], pattern.subject["device"]): (pattern.support, pattern.cases) for pattern in patterns
    } == expected


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1000, 10_000), (50, 100), (1000, 20)], ids=["fleet", "few", "storm"])
def test_detection_in_200_000_alerts_takes_under_five_seconds(shape: tuple[int, int]) -> None:
    alerts = make_random_columns(3, MAX_ALERTS, *shape, days=1 if shape == (1000, 20) else 30)
    started = time.process_time()
    detect_all(alerts)
    list(detect_sequences(alerts, alerts.devices % 10, "group"))
    assert time.process_time() - started < 5


# --- in the database --------------------------------------------------------------------------------


@pytest.fixture
def now_after_planted_alerts(site: None) -> datetime:
    """Store alerts of a pump and, 5 minutes later, of a boiler of its group on six days. Returns the time after."""
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    group = DeviceGroup.objects.create(name="site a")
    pump, boiler = Device.objects.create(device_id="pump-1"), Device.objects.create(device_id="boiler-1")
    group.devices.add(pump, boiler)
    pump_off = lifecycle.create({"name": "Pump off", "metric_name": "on", "threshold_value": 1}, "user:x")
    too_hot = lifecycle.create({"name": "Too hot", "metric_name": "t", "threshold_value": 1}, "user:x")
    for day in range(1, 7):
        triggered_at = now - timedelta(days=day, hours=day)
        store_alert(pump_off, pump, triggered_at)
        store_alert(too_hot, boiler, triggered_at + timedelta(minutes=5), retroactive=day == 3)
    return now


def store_alert(rule: Any, device: Device | None, triggered_at: datetime, **fields: Any) -> Alert:
    return Alert.objects.create(
        rule=rule,
        rule_name=rule.name,
        device=device,
        device_name=device.device_id if device else "gone",
        metric_name=rule.metric_name,
        level="warning",
        status="resolved",
        triggered_at=triggered_at,
        last_breach_at=triggered_at,
        **fields,
    )


def test_pattern_has_description_subject_and_devices(now_after_planted_alerts: datetime) -> None:
    assert refresh_patterns(now_after_planted_alerts) == 1
    pattern = Pattern.objects.get()
    assert pattern.description == "“Too hot” elsewhere in group site a follows “Pump off” within 10 min in 6 of 6 cases"
    assert (pattern.kind, pattern.support, pattern.confidence) == ("following", 6, 1.0)
    assert pattern.devices == ["boiler-1", "pump-1"] and pattern.subject["group"] == "site a"
    assert pattern.subject["first"]["rule_name"] == "Pump off"
    assert pattern.subject["then"]["rule_id"].startswith("rule_")


def test_shadow_old_and_orphaned_alerts_are_ignored(now_after_planted_alerts: datetime) -> None:
    Alert.objects.filter(rule__name="Too hot").order_by("pk")[0:1].get().delete()
    assert refresh_patterns(now_after_planted_alerts) == 1
    alerts = Alert.objects.filter(rule__name="Too hot").order_by("pk")
    for change in (
        {"shadow": True},
        {"device": None},
        {"rule": None},
        {"triggered_at": now_after_planted_alerts - timedelta(days=31)},
    ):
        alert = alerts[0]
        fields_before = {name: getattr(alert, name) for name in change}
        Alert.objects.filter(pk=alert.pk).update(**change)
        assert refresh_patterns(now_after_planted_alerts) == 0, change
        Alert.objects.filter(pk=alert.pk).update(**fields_before)
    assert refresh_patterns(now_after_planted_alerts) == 1


def test_known_pattern_keeps_found_at_and_ended_pattern_is_deleted(now_after_planted_alerts: datetime) -> None:
    refresh_patterns(now_after_planted_alerts)
    later = now_after_planted_alerts + timedelta(days=2)
    assert refresh_patterns(later) == 1
    assert Pattern.objects.get().found_at == now_after_planted_alerts
    assert count_new_patterns(now_after_planted_alerts + timedelta(hours=23)) == 1 and count_new_patterns(later) == 0
    assert refresh_patterns(now_after_planted_alerts + timedelta(days=40)) == 0
    assert not Pattern.objects.exists()


def test_find_patterns_task_replaces_stored_patterns(now_after_planted_alerts: datetime) -> None:
    Alert.objects.all().update(triggered_at=datetime.now(UTC))
    Pattern.objects.create(kind="flapping", subject={}, support=1, confidence=1.0)
    assert find_patterns() == 2
    assert set(Pattern.objects.values_list("kind", "support")) == {("flapping", 6)}


def test_each_kind_has_its_description(site: None) -> None:
    now = datetime(2026, 11, 16, tzinfo=UTC)  # a Monday
    devices = [Device.objects.create(device_id=f"d{number}") for number in range(5)]
    rule = lifecycle.create({"name": "Backup slow", "metric_name": "b", "threshold_value": 1}, "user:x")
    for week in range(1, 5):
        for minute in (0, 15, 30, 45):
            store_alert(rule, devices[0], now - timedelta(weeks=week) + timedelta(hours=23, minutes=minute))
        for hour in (1, 5, 9):
            for device in devices[1:]:
                store_alert(rule, device, now - timedelta(weeks=week) + timedelta(hours=hour))
    refresh_patterns(now)
    assert set(Pattern.objects.values_list("description", flat=True)) == {
        "“Backup slow” on d0 flaps: 16 of its 16 alerts were 4 or more within an hour",
        "“Backup slow” alerts on Mondays: 4 of the 4 days with alerts",
        "d1, d2, d3 and 1 more alert within a minute of one another in 12 of 12 cases",
    }
    Alert.objects.all().delete()
    for day in range(1, 9):
        for device in devices[:2]:
            store_alert(rule, device, now - timedelta(days=day) + timedelta(hours=23, minutes=day))
    refresh_patterns(now)
    assert set(Pattern.objects.values_list("description", flat=True)) == {
        "“Backup slow” alerts from 23:00 to 00:00 UTC: 8 of the 8 hours with alerts",
        "d0 and d1 alert within a minute of one another in 8 of 8 cases",
    }
