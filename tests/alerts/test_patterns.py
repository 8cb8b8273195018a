"""What alerts do again and again: planted patterns are found, chance is not taken for one."""

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
Row = tuple[int, int, int]  # µs, rule, device


def columns(rows: list[Row]) -> AlertColumns:
    return AlertColumns(*np.array(rows, np.int64).reshape(-1, 3).T)


def everything(alerts: AlertColumns) -> list[DetectedPattern]:
    found: list[Iterator[DetectedPattern]] = [
        detect_flapping(alerts),
        detect_sequences(alerts, alerts.devices, "device"),
    ]
    found += [detect_recurring_times(alerts), detect_co_occurrence(alerts)]
    return sorted((one for each in found for one in each), key=str)


def by_chance(seed: int, alerts: int, rule_count: int, devices: int, days: int = 30) -> AlertColumns:
    """Alerts that have nothing to do with one another."""
    chance = np.random.default_rng(seed)
    times = MONDAY + chance.integers(0, days * DAY, alerts)
    return AlertColumns(times, chance.integers(1, rule_count + 1, alerts), chance.integers(1, devices + 1, alerts))


def noise(*shape: int) -> list[Row]:
    alerts = by_chance(*shape)
    return list(zip(alerts.times.tolist(), alerts.rules.tolist(), alerts.devices.tolist(), strict=True))


def only(kind: str, alerts: AlertColumns) -> list[DetectedPattern]:
    return [one for one in everything(alerts) if one.kind == kind]


# --- each kind --------------------------------------------------------------------------------------


def test_four_alerts_of_a_rule_and_device_within_an_hour_are_flapping() -> None:
    rows = [(MONDAY + minute * MINUTE, 1, 7) for minute in (0, 20, 40, 60, 500, 700)]
    rows += [(MONDAY + minute * MINUTE, 1, 8) for minute in (0, 20, 40, 61)]  # a minute too slow
    rows += [(MONDAY + minute * MINUTE, rule, 9) for minute, rule in ((0, 1), (1, 2), (2, 1), (3, 2), (4, 1))]
    assert list(detect_flapping(columns(rows))) == [DetectedPattern("flapping", {"rule": 1, "device": 7}, 4, 6, (7,))]


def test_alerts_that_follow_one_another_at_a_device_are_found_with_their_share() -> None:
    rows = noise(1, 300, 5, 5)
    starts = [MONDAY + day * DAY + day * 47 * MINUTE for day in range(16)]
    rows += [(at, 11, 6) for at in starts]
    rows += [(at + (2 + day % 7) * MINUTE, 12, 6) for day, at in enumerate(starts) if day not in (3, 9)]
    found = only("following", columns(rows))
    assert found == [DetectedPattern("following", {"first": 11, "then": 12, "device": 6}, 14, 16, (6,))]
    assert found[0].confidence == 14 / 16


def test_what_follows_later_than_ten_minutes_or_at_another_device_does_not_follow() -> None:
    starts = [MONDAY + day * DAY + day * 47 * MINUTE for day in range(16)]
    late = [(at, 1, 1) for at in starts] + [(at + 10 * MINUTE + 1, 2, 1) for at in starts]
    elsewhere = [(at, 1, 1) for at in starts] + [(at + MINUTE, 2, 2) for at in starts]
    assert not only("following", columns(late)) and not only("following", columns(elsewhere))


def test_in_a_group_what_follows_is_at_another_device() -> None:
    starts = [MONDAY + day * DAY + day * 47 * MINUTE for day in range(8)]
    rows = [(at, 1, day % 3) for day, at in enumerate(starts)] + [(at + MINUTE, 2, 5) for at in starts]
    alerts = columns(rows)
    (found,) = detect_sequences(alerts, np.full(len(alerts), 40), "group")
    assert found == DetectedPattern("following", {"first": 1, "then": 2, "group": 40}, 8, 8, (0, 1, 2, 5))
    same = columns([(at, 1, 5) for at in starts] + [(at + MINUTE, 2, 5) for at in starts])
    assert not list(detect_sequences(same, np.full(len(same), 40), "group"))


def test_a_burst_is_one_case_and_what_is_always_there_follows_nothing() -> None:
    starts = [MONDAY + day * DAY for day in range(6)]
    bursts = [(at + second * SECOND, 1, 1) for at in starts for second in range(0, 300, 10)]
    bursts += [(at + 301 * SECOND, 2, 1) for at in starts]
    [found] = only("following", columns(bursts))
    assert (found.support, found.cases) == (6, 6)  # though 180 alerts
    always = [(MONDAY + step * 11 * MINUTE, 1, 1) for step in range(4000)]
    always += [(MONDAY + step * 17 * HOUR, 2, 1) for step in range(40)]
    assert not only("following", columns(always))  # 1 is within ten minutes of anything


def test_a_rule_of_one_hour_of_the_day_is_found() -> None:
    rows = [(MONDAY + day * DAY + 3 * HOUR + day * MINUTE, 1, day % 2) for day in range(14)]
    rows += [(MONDAY + day * DAY + hour * HOUR, 1, 5) for day, hour in ((1, 8), (2, 15), (5, 22))]
    rows += [(MONDAY + day * DAY + 12 * HOUR, 2, 1) for day in range(3)]  # no more often than by chance
    assert only("hour", columns(rows)) == [DetectedPattern("hour", {"rule": 1, "hour": 3}, 14, 17, (0, 1))]


def test_one_bad_night_is_no_habit() -> None:
    night = [(MONDAY + 3 * HOUR + second * SECOND, 1, second) for second in range(3000)]
    assert not [*detect_recurring_times(columns(night))]


def test_a_rule_of_one_weekday_is_found() -> None:
    rows = [(MONDAY + week * 7 * DAY + hour * HOUR, 1, 4) for week in range(4) for hour in (2, 9, 17)]
    rows += [(MONDAY + 3 * DAY, 1, 5), (MONDAY + 28 * DAY - HOUR, 2, 6)]
    found = DetectedPattern("weekday", {"rule": 1, "weekday": 0}, 4, 5, (4,))
    assert datetime.fromtimestamp(MONDAY / SECOND, UTC).weekday() == 0
    assert only("weekday", columns(rows)) == [found]


def test_devices_that_trigger_together_are_found_as_one_group() -> None:
    rows = noise(2, 60, 3, 4)
    starts = [MONDAY + day * DAY + day * 47 * MINUTE for day in range(9)]
    rows += [(at + device * SECOND, 1 + device % 2, device) for at in starts for device in (20, 30, 45)]
    rows += [(starts[0] + HOUR, 1, 20), (starts[1] + HOUR, 1, 45)]
    assert only("together", columns(rows)) == [DetectedPattern("together", {}, 9, 11, (20, 30, 45))]


def test_devices_a_minute_and_more_apart_are_not_together() -> None:
    starts = [MONDAY + day * DAY for day in range(9)]
    rows = [(at + device * (MINUTE + 1), 1, device) for at in starts for device in (0, 1)]
    assert not only("together", columns(rows))


# --- chance, order, size ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 2, 2), (400, 3, 2), (2_000, 10, 10), (20_000, 50, 200), (20_000, 5, 2000)])
def test_alerts_by_chance_have_no_pattern(shape: tuple[int, int, int]) -> None:
    for seed in range(10):
        alerts = by_chance(seed, *shape)
        flaps = {
            one.subject["device"] for one in detect_flapping(alerts)
        }  # four within an hour happens by chance, and is so
        assert {one.kind for one in everything(alerts)} <= ({"flapping"} if flaps else set()), seed


def test_without_alerts_there_are_no_patterns() -> None:
    assert everything(columns([])) == [] == list(detect_sequences(columns([]), np.empty(0, np.int64), "group"))


def test_next_to_frequent_alerts_rare_ones_have_no_pattern_by_chance() -> None:
    for seed in range(10):
        even = by_chance(seed, 20_000, 1, 10)
        shares = 1 / np.arange(1, 13) ** 2
        numbers = np.random.default_rng(seed + 100).choice(np.arange(1, 13), len(even), p=shares / shares.sum())
        assert not list(detect_sequences(AlertColumns(even.times, numbers, even.devices), even.devices, "device")), seed


def test_few_alerts_that_meet_by_chance_are_no_pattern() -> None:
    one_in_three = [(MONDAY + day * DAY + (3 if day < 5 else day) * HOUR, 1, 1) for day in range(16)]
    assert not only("hour", columns(one_in_three))  # 24 hours of one rule: one such case in a hundred is chance
    for seed in range(40):
        busy = by_chance(seed, 120, 1, 10)
        assert not list(detect_co_occurrence(AlertColumns(MONDAY + busy.times % HOUR, busy.rules, busy.devices))), seed


rows_of_few = st.lists(
    st.tuples(st.integers(0, 40).map(lambda at: MONDAY + at * 7 * MINUTE), st.integers(1, 3), st.integers(1, 3)),
    max_size=60,
)


@given(rows=rows_of_few, shuffle=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_order_of_alerts_makes_no_difference(rows: list[Row], shuffle: Any) -> None:
    planted = [(MONDAY + day * DAY + at, rule, 9) for day in range(8) for at, rule in ((0, 1), (MINUTE, 2))]
    rows = rows + planted
    before = everything(columns(rows))
    assert before
    shuffle.shuffle(rows)
    assert everything(columns(rows)) == before


@given(rows=rows_of_few)
@settings(max_examples=150, deadline=None)
def test_flapping_is_what_counting_by_hand_finds(rows: list[Row]) -> None:
    by_series: dict[tuple[int, int], list[int]] = {}
    for at, rule, device in sorted(rows):
        by_series.setdefault((rule, device), []).append(at)
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
    found = detect_flapping(columns(rows))
    assert {(one.subject["rule"], one.subject["device"]): (one.support, one.cases) for one in found} == expected


@pytest.mark.parametrize("shape", [(1000, 10_000), (50, 100), (1000, 20)], ids=["fleet", "few", "storm"])
def test_two_hundred_thousand_alerts_take_less_than_five_seconds(shape: tuple[int, int]) -> None:
    alerts = by_chance(3, MAX_ALERTS, *shape, days=1 if shape == (1000, 20) else 30)
    begun = time.process_time()
    everything(alerts)
    list(detect_sequences(alerts, alerts.devices % 10, "group"))
    assert time.process_time() - begun < 5


# --- in the database --------------------------------------------------------------------------------


@pytest.fixture
def planted(site: None) -> datetime:
    """Six evenings on which a pump goes off and a boiler of the same group is hot soon after; returns now."""
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    group = DeviceGroup.objects.create(name="site a")
    pump, boiler = Device.objects.create(device_id="pump-1"), Device.objects.create(device_id="boiler-1")
    group.devices.add(pump, boiler)
    off = lifecycle.create({"name": "Pump off", "metric_name": "on", "threshold_value": 1}, "user:x")
    hot = lifecycle.create({"name": "Too hot", "metric_name": "t", "threshold_value": 1}, "user:x")
    for day in range(1, 7):
        at = now - timedelta(days=day, hours=day)
        alert(off, pump, at)
        alert(hot, boiler, at + timedelta(minutes=5), retroactive=day == 3)
    return now


def alert(rule: Any, device: Device | None, at: datetime, **more: Any) -> Alert:
    return Alert.objects.create(
        rule=rule,
        rule_name=rule.name,
        device=device,
        device_name=device.device_id if device else "gone",
        metric_name=rule.metric_name,
        level="warning",
        status="resolved",
        triggered_at=at,
        last_breach_at=at,
        **more,
    )


def test_patterns_are_told_in_words_with_the_devices_that_they_are_about(planted: datetime) -> None:
    assert refresh_patterns(planted) == 1
    found = Pattern.objects.get()
    assert found.description == "“Too hot” elsewhere in group site a follows “Pump off” within 10 min in 6 of 6 cases"
    assert (found.kind, found.support, found.confidence) == ("following", 6, 1.0)
    assert found.devices == ["boiler-1", "pump-1"] and found.subject["group"] == "site a"
    assert found.subject["first"]["rule_name"] == "Pump off"
    assert found.subject["then"]["rule_id"].startswith("rule_")


def test_shadows_old_alerts_and_those_of_what_is_gone_are_left_out(planted: datetime) -> None:
    Alert.objects.filter(rule__name="Too hot").order_by("pk")[0:1].get().delete()
    assert refresh_patterns(planted) == 1
    left = Alert.objects.filter(rule__name="Too hot").order_by("pk")
    for change in ({"shadow": True}, {"device": None}, {"rule": None}, {"triggered_at": planted - timedelta(days=31)}):
        one = left[0]
        before = {name: getattr(one, name) for name in change}
        Alert.objects.filter(pk=one.pk).update(**change)
        assert refresh_patterns(planted) == 0, change
        Alert.objects.filter(pk=one.pk).update(**before)
    assert refresh_patterns(planted) == 1


def test_what_was_found_before_keeps_its_time_and_what_is_over_goes(planted: datetime) -> None:
    refresh_patterns(planted)
    later = planted + timedelta(days=2)
    assert refresh_patterns(later) == 1
    assert Pattern.objects.get().found_at == planted
    assert count_new_patterns(planted + timedelta(hours=23)) == 1 and count_new_patterns(later) == 0
    assert refresh_patterns(planted + timedelta(days=40)) == 0
    assert not Pattern.objects.exists()


def test_the_clock_finds_patterns(planted: datetime) -> None:
    Alert.objects.all().update(triggered_at=datetime.now(UTC))
    Pattern.objects.create(kind="flapping", subject={}, support=1, confidence=1.0)
    assert find_patterns() == 2
    assert set(Pattern.objects.values_list("kind", "support")) == {("flapping", 6)}


def test_every_kind_has_its_words(site: None) -> None:
    now = datetime(2026, 11, 16, tzinfo=UTC)  # a Monday
    devices = [Device.objects.create(device_id=f"d{number}") for number in range(5)]
    rule = lifecycle.create({"name": "Backup slow", "metric_name": "b", "threshold_value": 1}, "user:x")
    for week in range(1, 5):
        for minute in (0, 15, 30, 45):
            alert(rule, devices[0], now - timedelta(weeks=week) + timedelta(hours=23, minutes=minute))
        for hour in (1, 5, 9):
            for device in devices[1:]:
                alert(rule, device, now - timedelta(weeks=week) + timedelta(hours=hour))
    refresh_patterns(now)
    assert set(Pattern.objects.values_list("description", flat=True)) == {
        "“Backup slow” on d0 flaps: 16 of its 16 alerts were 4 or more within an hour",
        "“Backup slow” alerts on Mondays: 4 of the 4 days with alerts",
        "d1, d2, d3 and 1 more alert within a minute of one another in 12 of 12 cases",
    }
    Alert.objects.all().delete()
    for day in range(1, 9):
        for device in devices[:2]:
            alert(rule, device, now - timedelta(days=day) + timedelta(hours=23, minutes=day))
    refresh_patterns(now)
    assert set(Pattern.objects.values_list("description", flat=True)) == {
        "“Backup slow” alerts from 23:00 to 00:00 UTC: 8 of the 8 hours with alerts",
        "d0 and d1 alert within a minute of one another in 8 of 8 cases",
    }
