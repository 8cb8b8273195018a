"""Silences: coverage, recurring windows, previews and permissions."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from alerts import recurring_windows, silences
from alerts.models import Alert, Silence, SilenceKind
from alerts.visibility import visible_silences
from metrics.models import Device, DeviceGroup
from rest.caller import Caller, Scope
from rest.errors import Forbidden, InvalidFields, NotFound
from tests.alerts.factories import build_alert, create_alerts, create_devices, create_notifying_rule, create_rule

ADMIN = Caller("user:admin", Scope.ADMIN)
NIGHT = {"days": [5], "from": "22:00", "to": "06:00", "timezone": "Europe/Berlin"}


def create_silence(caller: Caller = ADMIN, **fields: Any) -> Silence:
    return silences.create_silence({"ends_at": timezone.now() + timedelta(hours=1), "reason": "works"} | fields, caller)


def site_a_caller(scope: Scope = Scope.OPERATE) -> Caller:
    user = get_user_model().objects.create_user(f"somebody who may {scope}")
    DeviceGroup.objects.get_or_create(name="site a")[0].members.add(user)
    return Caller(f"user:{user.username}", scope, groups=("site a",))


def list_fields(raised: pytest.ExceptionInfo[InvalidFields]) -> list[str]:
    return [field for field, _ in raised.value.fields]


@pytest.mark.slow
def test_silence_covers_alerts_that_match_every_non_empty_list(site: None) -> None:
    inside, outside = create_devices(1, "site a")[0], create_devices(1, prefix="other")[0]
    hot_rule, wet_rule = (
        create_notifying_rule("hot"),
        create_notifying_rule("wet", metric_name="humidity", level="critical"),
    )
    alerts = {
        (alert.rule_name, alert.device_name): alert
        for rule in (hot_rule, wet_rule)
        for alert in create_alerts(rule, inside, outside)
    }
    now = timezone.now()

    def find_covered(**fields: Any) -> set[tuple[str, str]]:
        Silence.objects.all().delete()
        create_silence(**fields)
        covering_silences = silences.find_covering([alert.pk for alert in alerts.values()], now + timedelta(seconds=1))
        return {key for key, alert in alerts.items() if alert.pk in covering_silences}

    device_a, device_b = "device_0000", "other_0000"
    assert find_covered(device_ids=[device_a, "else"]) == {("hot", device_a), ("wet", device_a)}
    assert find_covered(device_groups=["site a", "site b"]) == {("hot", device_a), ("wet", device_a)}
    assert find_covered(metric_names=["humidity"]) == {("wet", device_a), ("wet", device_b)}
    assert find_covered(rule_ids=[hot_rule.rule_id]) == {("hot", device_a), ("hot", device_b)}
    assert find_covered(levels=["critical", "emergency"]) == {("wet", device_a), ("wet", device_b)}
    assert find_covered(alert_id=alerts["hot", device_b].alert_id) == {("hot", device_b)}
    assert find_covered(device_groups=["site a"], levels=["critical"]) == {("wet", device_a)}
    assert find_covered(device_ids=[device_b], device_groups=["site a"]) == set()
    assert find_covered(rule_ids=[wet_rule.rule_id], metric_names=["temperature"]) == set()


def test_silence_is_active_from_start_until_just_before_end(site: None) -> None:
    (alert,) = create_alerts(create_notifying_rule(), *create_devices(1))
    now = timezone.now()
    silence = create_silence(
        metric_names=["temperature"], starts_at=now + timedelta(hours=1), ends_at=now + timedelta(hours=2)
    )
    hours = [hour for hour in (0.99, 1, 1.5, 2, 3) if silences.find_covering([alert.pk], now + timedelta(hours=hour))]
    assert hours == [1, 1.5]
    assert silences.find_covering([alert.pk], now + timedelta(hours=1)) == {alert.pk: f"{silence.silence_id}: works"}


@pytest.mark.parametrize(
    ("fields", "invalid_fields"),
    [
        ({}, ["device_ids"]),
        ({"device_ids": ["a"], "reason": " "}, ["reason"]),
        ({"device_ids": ["a"], "reason": "x" * 1001}, ["reason"]),
        ({"device_ids": "a"}, ["device_ids"]),
        ({"device_ids": [""]}, ["device_ids"]),
        ({"levels": ["awful"]}, ["levels"]),
        ({"rule_ids": ["r"], "kind": "nap"}, ["kind"]),
        ({"rule_ids": ["r"], "ends_at": None}, ["ends_at"]),
        ({"rule_ids": ["r"], "ends_at": datetime(2020, 1, 1, tzinfo=UTC)}, ["ends_at"]),
        ({"rule_ids": ["r"], "ends_at": datetime(2099, 1, 1, tzinfo=UTC)}, ["ends_at"]),
        ({"rule_ids": ["r"], "weekly": {"days": [7], "from": "22:00", "to": "06:00"}}, ["weekly"]),
        ({"levels": ["awful"], "kind": "nap", "reason": ""}, ["levels", "kind", "reason"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_invalid_silence_is_rejected_with_errors_by_field(
    site: None, fields: dict[str, Any], invalid_fields: list[str]
) -> None:
    with pytest.raises(InvalidFields) as raised:
        create_silence(**fields)
    assert list_fields(raised) == invalid_fields


@pytest.mark.parametrize(
    "window",
    [
        [], {}, {"days": [0], "from": "22:00"}, {"days": [], "from": "22:00", "to": "23:00"},
        {"days": [True], "from": "22:00", "to": "23:00"}, {"days": [0], "from": "24:00", "to": "06:00"},
        {"days": [0], "from": "1:00", "to": "06:00"}, {"days": [0], "from": "01:00", "to": "06:00", "timezone": "Mars"},
        {"days": [0], "from": "01:00", "to": "06:00", "timezone": "../etc/passwd"},
        {"days": [0], "from": "01:00", "to": "06:00", "until": "x"},
    ],
    ids=repr,
)  # fmt: skip
def test_invalid_recurring_window_is_rejected(window: Any) -> None:
    assert "must be" in (recurring_windows.validate(window) or "")


def test_window_over_midnight_belongs_to_its_first_day() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    saturday = datetime(2026, 6, 6, tzinfo=berlin)
    hours = {-3: False, 21.99: False, 22: True, 26: True, 29.99: True, 30: False, 46: False}
    assert {hour: recurring_windows.is_active(NIGHT, saturday + timedelta(hours=hour)) for hour in hours} == hours


@pytest.mark.parametrize(
    ("saturday", "hours"),
    [(datetime(2026, 3, 28), 7), (datetime(2026, 6, 6), 8), (datetime(2026, 10, 24), 9)],
    ids=["spring", "summer", "autumn"],
)
def test_window_follows_local_time_when_clocks_change(saturday: datetime, hours: int) -> None:
    since = saturday.replace(tzinfo=UTC)
    ((begin, end),) = recurring_windows.list_occurrences(NIGHT, since, since + timedelta(days=2))
    assert end - begin == timedelta(hours=hours)


def test_repeated_hour_is_within_the_window_both_times() -> None:
    window = NIGHT | {"to": "02:30"}
    since = datetime(2026, 10, 24, tzinfo=UTC)
    ((begin, end),) = recurring_windows.list_occurrences(window, since, since + timedelta(days=2))
    assert end - begin == timedelta(hours=5.5)


def test_window_from_a_time_to_the_same_time_is_24_hours() -> None:
    window = {"days": [0], "from": "00:00", "to": "00:00"}
    monday = datetime(2026, 6, 1, tzinfo=UTC)
    assert [recurring_windows.is_active(window, monday + timedelta(hours=hour)) for hour in (-0.01, 0, 23.99, 24)] == [
        False, True, True, False,
    ]  # fmt: skip


@pytest.mark.slow
@given(
    at=st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
    days=st.sets(st.integers(0, 6), min_size=1),
    start=st.times(),
    end=st.times(),
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "Asia/Tokyo"]),
)
def test_window_matches_local_time_in_zones_without_dst(
    at: datetime, days: set[int], start: Any, end: Any, zone: str
) -> None:
    window = {"days": sorted(days), "from": f"{start:%H:%M}", "to": f"{end:%H:%M}", "timezone": zone}
    local_time = at.astimezone(ZoneInfo(zone))
    time_of_day, yesterday = f"{local_time:%H:%M}", (local_time.weekday() - 1) % 7
    if window["from"] < window["to"]:
        expected = local_time.weekday() in days and window["from"] <= time_of_day < window["to"]
    else:
        expected = (local_time.weekday() in days and time_of_day >= window["from"]) or (
            yesterday in days and time_of_day < window["to"]
        )
    assert recurring_windows.is_active(window, at) is expected


def test_preview_lists_alerts_covered_within_recurring_windows(site: None) -> None:
    (device,) = create_devices(1, "site a")
    rule = create_notifying_rule()
    saturday = datetime(2026, 6, 6, tzinfo=ZoneInfo("Europe/Berlin"))
    now = saturday + timedelta(days=20)
    for hour in (-50, 12, 23, 28, 31, 24 * 7 + 23):
        alert = build_alert(rule, device, saturday + timedelta(hours=hour), status="resolved")
        alert.save()
    build_alert(rule, device, saturday + timedelta(hours=23), status="resolved", shadow=True).save()
    build_alert(
        create_notifying_rule("other", metric_name="x"), device, saturday + timedelta(hours=23), status="resolved"
    ).save()

    def preview_hours(**fields: Any) -> list[float]:
        alerts = silences.preview_alerts(fields, ADMIN, saturday - timedelta(days=1), now)
        return sorted((alert.raised_at - saturday).total_seconds() / 3600 for alert in alerts)

    assert preview_hours(metric_names=["temperature"]) == [12, 23, 28, 31, 191]
    assert preview_hours(metric_names=["temperature"], weekly=NIGHT) == [23, 28, 191]
    assert preview_hours(device_groups=["site a"], weekly=NIGHT) == [23, 23, 28, 191]
    assert preview_hours(device_groups=["site b"]) == []
    alerts = silences.preview_alerts({"metric_names": ["temperature"]}, ADMIN, saturday, now)
    assert alerts.count() == 5
    assert len(alerts[1:3]) == 2
    with pytest.raises(InvalidFields):
        silences.preview_alerts({}, ADMIN, saturday, now)


def test_preview_lists_visible_alerts_only(site: None) -> None:
    caller = site_a_caller()
    create_alerts(create_notifying_rule(), *create_devices(1, "site a"), *create_devices(2, prefix="other"))
    alerts = silences.preview_alerts({"levels": ["warning"]}, caller, timezone.now() - timedelta(days=1))
    assert [alert.device_name for alert in alerts] == ["device_0000"]


def test_restricted_caller_silences_visible_devices_only(site: None) -> None:
    caller = site_a_caller()
    (visible,), (hidden,) = create_devices(1, "site a"), create_devices(1, prefix="other")
    (visible_alert, hidden_alert) = create_alerts(create_notifying_rule(), visible, hidden)
    for fields in (
        {"levels": ["warning"]},
        {"device_ids": [visible.device_id, hidden.device_id]},
        {"device_groups": ["site a", "site b"]},
        {"alert_id": hidden_alert.alert_id},
    ):
        with pytest.raises(InvalidFields, match="must name devices or device groups that you may see"):
            create_silence(caller, **fields)
    for fields in (
        {"device_ids": [visible.device_id]},
        {"device_groups": ["site a"], "levels": ["warning"]},
        {"alert_id": visible_alert.alert_id},
    ):
        assert create_silence(caller, **fields).created_by == caller.name


def test_restricted_caller_sees_silences_of_visible_devices_only(site: None) -> None:
    (visible,), (hidden,) = create_devices(1, "site a"), create_devices(1, prefix="other")
    expected = {
        create_silence(device_ids=[visible.device_id]),
        create_silence(device_groups=["site a"]),
        create_silence(levels=["critical"]),
    }
    create_silence(device_ids=[hidden.device_id])
    create_silence(device_groups=["site b"])
    create_silence(rule_ids=[create_rule(device_groups=["site b"]).rule_id])
    assert set(visible_silences(site_a_caller())) == expected
    assert visible_silences(ADMIN).count() == 6
    assert not visible_silences(Caller("user:lone", Scope.OPERATE, groups=())).exists()


def test_operator_neither_changes_nor_ends_silences_that_concern_other_groups(site: None) -> None:
    (visible,), (hidden,) = create_devices(1, "site a"), create_devices(1, prefix="other")
    own = create_silence(device_ids=[visible.device_id])
    both, operator = [visible.device_id, hidden.device_id], site_a_caller()
    for fields in ({"device_ids": both}, {"device_groups": ["site a", "site b"]}, {"levels": ["critical"]}):
        shared = create_silence(**fields)
        with pytest.raises(Forbidden):
            silences.end_silence(shared, operator)
        with pytest.raises(Forbidden):
            silences.change_silence(shared, {"device_ids": [visible.device_id]}, operator)
        shared.refresh_from_db()
        assert shared.ends_at > timezone.now() and shared.device_ids == fields.get("device_ids", [])
    assert silences.end_silence(own, operator).ends_at <= timezone.now()


def test_silence_is_ended_by_operators_of_its_devices_only(site: None) -> None:
    create_devices(1, "site a")
    silence = create_silence(device_groups=["site a"])
    other_silence = create_silence(device_groups=["site b"])
    for caller, hidden_silence in ((site_a_caller(Scope.READ), silence), (site_a_caller(), other_silence)):
        with pytest.raises(NotFound):
            silences.end_silence(hidden_silence, caller)
    now = timezone.now()
    assert silences.end_silence(silence, ADMIN, now).ends_at == now
    later_silence = create_silence(
        levels=["info"], starts_at=now + timedelta(hours=1), ends_at=now + timedelta(hours=2)
    )
    assert (silences.end_silence(later_silence, ADMIN, now).starts_at, later_silence.ends_at) == (now, now)


def test_device_maintenance_is_limited_to_itself_and_four_hours(site: None) -> None:
    Device.objects.create(device_id="device_001")
    caller = Caller("key:1:device", Scope.INGEST, "device_001")
    now = timezone.now()
    silence = silences.create_device_maintenance(caller, now + timedelta(hours=4), "a reboot", now)
    assert (silence.kind, silence.device_ids) == (SilenceKind.MAINTENANCE, ["device_001"])
    with pytest.raises(InvalidFields, match="at most 4 hours"):
        silences.create_device_maintenance(caller, now + timedelta(hours=4, seconds=1), "a holiday", now)
    with pytest.raises(InvalidFields):
        create_silence(caller, device_ids=["device_002"])
    with pytest.raises(NotFound):
        silences.end_silence(create_silence(device_ids=["device_001"]), caller)
    assert silences.end_silence(silence, caller, now).ends_at == now


@pytest.mark.slow
def test_covering_silences_of_2000_alerts_take_two_queries(site: None, django_assert_num_queries: Any) -> None:
    alerts = create_alerts(create_notifying_rule(), *create_devices(2000, "site a"))
    for number in range(50):
        create_silence(device_groups=[f"site {number}"])
    create_silence(device_groups=["site a"])
    pks = list(Alert.objects.values_list("pk", flat=True))
    with django_assert_num_queries(2):
        assert len(silences.find_covering(pks, timezone.now())) == len(alerts)


@pytest.mark.parametrize(
    ("start", "hours", "weekly", "applies"),
    [
        ("2026-11-30T10:00", 1, {"days": [6], "from": "00:00", "to": "00:00"}, False),  # a Monday, Sundays only
        ("2026-11-30T10:00", 1, {"days": [0], "from": "11:00", "to": "12:00"}, False),  # begins as the silence ends
        ("2026-11-30T10:00", 2, {"days": [0], "from": "11:00", "to": "12:00"}, True),
        ("2026-11-30T02:00", 1, {"days": [6], "from": "22:00", "to": "06:00"}, True),  # the night of Sunday
        ("2026-11-30T10:00", 24 * 7, {"days": [6], "from": "22:00", "to": "06:00"}, True),
        # The hour that is skipped when clocks are set forward.
        ("2027-03-28T00:00", 12, {"days": [6], "from": "02:15", "to": "02:45", "timezone": "Europe/Oslo"}, False),
        ("2027-03-28T00:00", 24 * 8, {"days": [6], "from": "02:15", "to": "02:45", "timezone": "Europe/Oslo"}, True),
    ],
)
def test_recurring_silence_that_can_never_apply_is_rejected(
    start: str, hours: int, weekly: dict[str, Any], applies: bool
) -> None:
    starts_at = datetime.fromisoformat(start).replace(tzinfo=UTC)
    ends_at = starts_at + timedelta(hours=hours)
    fields = {"device_ids": ["d"], "reason": "r", "starts_at": starts_at, "ends_at": ends_at, "weekly": weekly}
    if applies:
        silences.validate(fields)
        return
    with pytest.raises(InvalidFields, match="the silence would never apply"):
        silences.validate(fields)


def test_windows_before_the_creation_of_a_silence_do_not_count(site: None) -> None:
    now = datetime(2026, 11, 30, 10, tzinfo=UTC)  # a Monday
    starts_at, weekly = now - timedelta(days=1), {"days": [6], "from": "00:00", "to": "00:00"}
    fields: dict[str, Any] = {"device_ids": ["d"], "reason": "r", "starts_at": starts_at, "weekly": weekly}
    with pytest.raises(InvalidFields, match="the silence would never apply"):
        silences.create_silence(fields | {"ends_at": now + timedelta(days=1)}, ADMIN, now)
    silences.create_silence(fields | {"ends_at": now + timedelta(days=6, hours=1)}, ADMIN, now)
