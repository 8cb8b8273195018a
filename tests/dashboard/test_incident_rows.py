"""Incidents in the inbox and open alerts on the overview, with members in all states."""

import re

import pytest
from django.test import Client

from alerts import alert_actions
from alerts.models import Alert, Incident, Resolution, Rule, Status
from alerts.rules import lifecycle
from tests.dashboard.factories import open_alert, queryset_of


@pytest.fixture
def rule(site: None) -> Rule:
    return lifecycle.create({"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0}, "user:mei")


@pytest.fixture
def mill(rule: Rule) -> dict[str, Alert]:
    """Open an incident with two unacknowledged, two acknowledged and two resolved alerts."""
    incident = Incident.objects.create(cause="group:mill", title="2 devices of Mill")
    levels = {
        "gate": "info", "pump": "warning",
        "fan": "warning", "belt": "error",
        "oven": "emergency", "door": "critical",
    }  # fmt: skip
    members = {
        name: open_alert(rule, name, f"{name} is too warm", incident=incident, level=level)
        for name, level in levels.items()
    }
    for name in ("fan", "belt"):
        alert_actions.acknowledge(queryset_of(members[name]), "user:ana")
    for name in ("oven", "door"):
        alert_actions.resolve(queryset_of(members[name]), Resolution.RECOVERED, "evaluator")
    return members


def rows_of_page(page: str) -> list[tuple[str, str]]:
    """Return the classes and the title of each row, without the children of incidents."""
    rows = re.findall(r'<li class="(arow[^"]*)".*?data-row>([^<]+)</a>', page, re.DOTALL)
    return [(" ".join(css.split()), title) for css, title in rows]


def children_of_page(page: str) -> list[str]:
    return re.findall(r'<li class="child .*?<a href="/alerts/alt_\w+/">([^<]+)</a>', page, re.DOTALL)


@pytest.mark.slow
def test_each_row_is_titled_by_its_own_worst_alert(client: Client, mill: dict[str, Alert]):
    assert rows_of_page(client.get("/alerts/").content.decode()) == [
        ("arow warning pick alone", "pump is too warm"),
        ("arow error pick", "belt is too warm"),
        ("arow emergency pick", "oven is too warm"),
    ]


@pytest.mark.slow
def test_rows_are_struck_through_only_when_every_member_is_resolved(client: Client, mill: dict[str, Alert]):
    assert client.get("/alerts/").content.decode().count("incident still open") == 1
    assert client.get(f"/alerts/updates/?shown={mill['oven'].alert_id}").json()["alerts"] == {
        mill["oven"].alert_id: {"status": "resolved", "owner": "", "incident_open": True, "silenced": ""}
    }
    alert_actions.resolve(Alert.objects.all(), Resolution.RECOVERED, "evaluator")
    page = client.get("/alerts/").content.decode()
    assert rows_of_page(page) == [("arow emergency pick done", "oven is too warm")]
    assert "incident still open" not in page


@pytest.mark.slow
def test_children_have_value_owner_and_actions(client: Client, mill: dict[str, Alert]):
    page = client.get("/alerts/").content.decode()
    assert children_of_page(page) == ["gate is too warm", "fan is too warm", "door is too warm"]
    gate, fan = re.findall(r'<li class="child .*?</li>', page, re.DOTALL)[:2]
    assert "4.25" in gate and "threshold 2" in gate and f'value="{mill["gate"].alert_id}"' in gate
    assert ">Acknowledge" in " ".join(gate.split()).replace("> Acknowledge", ">Acknowledge")
    assert '<span title="ana">ana</span>' in fan


@pytest.mark.slow
def test_search_shows_the_alert_that_matched(client: Client, mill: dict[str, Alert]):
    for name, css in (("gate", "arow info pick alone"), ("fan", "arow warning pick"), ("door", "arow critical pick")):
        page = client.get("/alerts/", {"q": name}).content.decode()
        assert rows_of_page(page) == [(css, f"{name} is too warm")] and children_of_page(page) == []


@pytest.mark.slow
def test_action_on_a_row_changes_only_the_alerts_of_the_row(client: Client, mill: dict[str, Alert]):
    incident = Incident.objects.get(cause="group:mill")
    form = {"verb": "resolve", "alert": f"{incident.incident_id}:active", "filters": "level=info"}
    client.post("/alerts/act/", form)
    assert set(Alert.objects.open().values_list("device_name", flat=True)) == {"pump", "fan", "belt"}
    client.post("/alerts/act/", form | {"alert": f"{incident.incident_id}:acknowledged", "filters": "q=belt"})
    assert set(Alert.objects.open().values_list("device_name", flat=True)) == {"pump", "fan"}
    client.post("/alerts/act/", form | {"alert": f"{incident.incident_id}:active", "filters": ""})
    assert set(Alert.objects.open().values_list("device_name", flat=True)) == {"fan"}


def test_headline_uses_unacknowledged_alerts_only(client: Client, rule: Rule):
    worse = open_alert(rule, "oven", "oven is too warm", level="emergency")
    open_alert(rule, "pump", "pump is too warm", level="warning")
    alert_actions.acknowledge(queryset_of(worse), "user:ana")
    page = client.get("/overview/alerts/").content.decode()
    assert "1 unacknowledged alert<" in page and "<b>pump is too warm</b>" in page and "oven" not in page
    assert "alarm warning" in page
    alert_actions.acknowledge(Alert.objects.filter(status=Status.ACTIVE), "user:ana")
    page = client.get("/overview/alerts/").content.decode()
    assert "No unacknowledged alerts" in page and "2 acknowledged alerts still open." in page
    assert "Open the worst" not in page and "alarm never" in page
