"""What statistics and the health of the site say of alerts."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from alerts.models import Alert, EvaluatorReport, Rule
from tests.alerts.factories import create_alert, create_device, create_rule
from tests.conftest import ApiClient

FRESH: dict[str, Any] = {"oldest_seconds": 0.2, "seq_behind": 3}


def engine(anonymous: ApiClient) -> tuple[str, str]:
    told = anonymous.get("/health/detailed").json["components"]["alert_engine"]
    return told["status"], told["detail"]


def reported(seconds_ago: float = 1, **more: Any) -> None:
    then = timezone.now() - timedelta(seconds=seconds_ago)
    EvaluatorReport.objects.update_or_create(pk=1, defaults={"at": then, "figures": FRESH | more})


def test_without_rules_there_is_nothing_that_could_be_wrong(anonymous: ApiClient):
    assert engine(anonymous) == ("healthy", "no alert rules")
    create_rule(enabled=False)
    assert engine(anonymous)[0] == "healthy"


@pytest.mark.parametrize(
    ("report", "status", "told"),
    [
        (None, "unhealthy", "never evaluated"),
        ({"seconds_ago": 61}, "unhealthy", "for 61 seconds"),
        ({"seconds_ago": 30}, "healthy", "1 alert rules are evaluated"),
        ({"oldest_seconds": 5.5, "seq_behind": 70}, "degraded", "5.5 seconds behind, 70 commits"),
        ({"oldest_seconds": 4.5, "seq_behind": 70}, "healthy", "evaluated"),
    ],
    ids=["never", "long ago", "lately", "behind", "little behind"],
)
def test_rules_that_are_not_evaluated_make_the_site_unwell(
    anonymous: ApiClient, report: dict[str, Any] | None, status: str, told: str
):
    create_rule()
    if report is not None:
        reported(**report)
    found = engine(anonymous)
    assert found[0] == status and told in found[1]


def test_a_suspended_rule_is_named_unless_it_is_disabled(anonymous: ApiClient):
    reported()
    made = create_rule(name="Too hot")
    Rule.objects.filter(pk=made.pk).update(suspended="division by zero")
    status, told = engine(anonymous)
    assert status == "degraded" and "Too hot" in told
    Rule.objects.filter(pk=made.pk).update(enabled=False)
    assert engine(anonymous)[0] == "healthy"


def test_alerts_of_the_last_day_are_counted_for_those_who_see_them(
    admin: ApiClient, viewer: ApiClient, stranger: ApiClient
):
    hot, now = create_rule(), timezone.now()
    boiler, pump = create_device("boiler", "site a"), create_device("pump")
    for at, age, shadow in ((boiler, 1, False), (boiler, 25, False), (boiler, 2, True), (pump, 3, False)):
        create_alert(hot, at, triggered_at=now - timedelta(hours=age), shadow=shadow)
        Alert.objects.update(status="resolved")
    assert admin.get("stats").json["last_24h_alerts"] == 2
    assert viewer.get("stats").json["last_24h_alerts"] == 1
    assert stranger.get("stats").json["last_24h_alerts"] == 0
    assert viewer.get("devices/boiler/stats").json["last_24h_alerts"] == 1
