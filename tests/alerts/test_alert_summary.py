"""Alerts in statistics, and alerting in the health of the site."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from alerts.models import Alert, EvaluatorFailure, EvaluatorReport, Rule
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.conftest import ApiClient

REPORT: dict[str, Any] = {"oldest_seconds": 0.2, "seq_behind": 3}


def alert_engine_health(reader: ApiClient) -> tuple[str, str]:
    component = reader.get("/health/detailed").json["components"]["alert_engine"]
    return component["status"], component["detail"]


def store_report(seconds_ago: float = 1, **figures: Any) -> None:
    at = timezone.now() - timedelta(seconds=seconds_ago)
    EvaluatorReport.objects.update_or_create(pk=1, defaults={"at": at, "figures": REPORT | figures})


def test_health_without_enabled_rules_is_healthy(reader: ApiClient):
    assert alert_engine_health(reader) == ("healthy", "no alert rules")
    create_rule(enabled=False)
    assert alert_engine_health(reader)[0] == "healthy"


@pytest.mark.parametrize(
    ("report", "status", "text"),
    [
        (None, "unhealthy", "never evaluated"),
        ({"seconds_ago": 61}, "unhealthy", "for 61 seconds"),
        ({"seconds_ago": 30}, "healthy", "1 alert rules are evaluated"),
        ({"oldest_seconds": 5.5, "seq_behind": 70}, "degraded", "5.5 seconds behind, 70 commits"),
        ({"oldest_seconds": 4.5, "seq_behind": 70}, "healthy", "evaluated"),
    ],
    ids=["no report", "old report", "recent report", "behind", "slightly behind"],
)
def test_health_follows_the_report_of_the_evaluator(
    reader: ApiClient, report: dict[str, Any] | None, status: str, text: str
):
    create_rule()
    if report is not None:
        store_report(**report)
    health = alert_engine_health(reader)
    assert health[0] == status and text in health[1]


@pytest.mark.parametrize(
    ("ages", "status"),
    [([], "healthy"), ([4000], "healthy"), ([600], "degraded"), ([600, 30, 20], "degraded"), ([3, 2, 1], "unhealthy")],
    ids=["none", "over an hour ago", "one", "before the last report", "no report since"],
)
def test_failures_of_the_evaluator_are_reported(
    reader: ApiClient, administrator: ApiClient, ages: list[float], status: str
):
    create_rule()
    store_report(10)
    for age in ages:
        EvaluatorFailure.objects.create(at=timezone.now() - timedelta(seconds=age), error="TypeError: no such type")
    health = alert_engine_health(reader)
    assert health[0] == status
    assert ("TypeError" in health[1]) is (status != "healthy")
    assert (b"Alerting: failures of evaluation" in administrator.get("/").raw) is (status != "healthy")


def test_suspended_rule_degrades_health_unless_disabled(reader: ApiClient):
    store_report()
    suspended = create_rule(name="Too hot")
    Rule.objects.filter(pk=suspended.pk).update(suspended="division by zero")
    status, detail = alert_engine_health(reader)
    assert status == "degraded" and detail.startswith("1 alert rules are suspended") and "Too hot" not in detail
    Rule.objects.filter(pk=suspended.pk).update(enabled=False)
    assert alert_engine_health(reader)[0] == "healthy"


@pytest.mark.slow
def test_last_day_alerts_are_counted_per_visible_device(admin: ApiClient, viewer: ApiClient, stranger: ApiClient):
    rule, now = create_rule(), timezone.now()
    boiler, pump = create_device("boiler", "site a"), create_device("pump")
    for device, age, shadow in ((boiler, 1, False), (boiler, 25, False), (boiler, 2, True), (pump, 3, False)):
        create_alert(rule, device, triggered_at=now - timedelta(hours=age), shadow=shadow)
        Alert.objects.update(status="resolved")
    assert admin.get("stats").json["last_24h_alerts"] == 2
    assert viewer.get("stats").json["last_24h_alerts"] == 1
    assert stranger.get("stats").json["last_24h_alerts"] == 0
    assert viewer.get("devices/boiler/stats").json["last_24h_alerts"] == 1
