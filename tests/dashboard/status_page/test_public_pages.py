"""Public pages: state from alerts, JSON, feeds, badges, caching."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from alerts.models import Rule
from dashboard.status_page import answers
from dashboard.status_page.history import refresh_history
from dashboard.status_page.models import StatusComponent, StatusPage
from tests.alerts.factories import create_rule
from tests.dashboard.status_page.factories import (
    create_component,
    create_incident,
    create_maintenance,
    create_page,
    store_alert,
)

HOUR = timedelta(hours=1)


@pytest.fixture
def page(site: None) -> StatusPage:
    return create_page()


@pytest.fixture
def rule(site: None) -> Rule:
    rule = create_rule(level="critical")
    Rule.objects.update(created_at=timezone.now() - timedelta(days=100))
    return rule


@pytest.fixture
def leaf(page: StatusPage) -> StatusComponent:
    return create_component(page, "Room readings", device_groups=["site a"])


def summary(client: Client) -> dict[str, Any]:
    answers.clear_cache()
    return json.loads(client.get("/status/api/v2/summary.json").content)


@pytest.mark.slow
def test_component_without_open_alerts_is_operational(page: StatusPage, rule: Rule, leaf: StatusComponent) -> None:
    refresh_history(page, timezone.now())
    body = summary(Client())
    assert body["status"] == {"indicator": "none", "description": "All systems operational"}
    assert [component["status"] for component in body["components"]] == ["operational"]


@pytest.mark.slow
def test_open_critical_alert_of_component_is_major_outage(page: StatusPage, rule: Rule, leaf: StatusComponent) -> None:
    store_alert(rule, "device_1", timezone.now() - HOUR, group="site a")
    store_alert(rule, "device_2", timezone.now() - HOUR, group="site b")
    other = create_component(page, "Other", device_groups=["site c"])
    refresh_history(page, timezone.now())
    states = {component["name"]: component["status"] for component in summary(Client())["components"]}
    assert states == {"Room readings": "major_outage", other.name: "operational"}


def test_unpublished_page_answers_404(site: None) -> None:
    create_page("hidden", published=False)
    for path in ("/status/", "/status/hidden/", "/status/hidden/api/v2/summary.json", "/status/hidden/badge.svg"):
        assert Client().get(path).status_code == 404


def test_cached_answers_need_no_sql(page: StatusPage, rule: Rule, leaf: StatusComponent) -> None:
    create_incident(page, leaf)
    create_maintenance(page, leaf, starts_at=timezone.now() + HOUR, ends_at=timezone.now() + 2 * HOUR)
    client = Client()
    paths = [
        "",
        "api/v2/summary.json",
        "api/v2/incidents.json",
        "feed.atom",
        "feed.rss",
        "maintenance.ics",
        "badge.svg",
    ]
    first = {path: client.get(f"/status/main/{path}") for path in paths}
    with CaptureQueriesContext(
        connection,
    ) as queries:
        for path in paths:
            answer = client.get(f"/status/main/{path}")
            assert answer.content == first[path].content and answer.status_code == 200
    assert not queries.captured_queries


def test_answer_has_etag_and_repeats_with_304(page: StatusPage, leaf: StatusComponent) -> None:
    client = Client()
    for path in ("", "api/v2/status.json", "feed.atom", "badge.svg"):
        first = client.get(f"/status/main/{path}")
        assert first["Cache-Control"] == "public, max-age=30"
        again = client.get(f"/status/main/{path}", headers={"If-None-Match": first["ETag"]})
        assert again.status_code == 304 and not again.content
        answers.clear_cache()
        same = client.get(f"/status/main/{path}", headers={"If-None-Match": first["ETag"]})
        assert same.status_code == 304, path


def test_all_documents_and_pages_answer(page: StatusPage, rule: Rule, leaf: StatusComponent) -> None:
    incident = create_incident(page, leaf)
    create_maintenance(page, leaf, starts_at=timezone.now() + HOUR, ends_at=timezone.now() + 2 * HOUR)
    for prefix in ("/status/", "/status/main/"):
        for path in ("", "history/", f"incidents/{incident.incident_id}/", "feed.atom", "feed.rss", "maintenance.ics",
                     f"badge/{leaf.component_id}.svg", "api/v2/components.json", "api/v2/incidents/unresolved.json",
                     "api/v2/scheduled-maintenances/upcoming.json"):  # fmt: skip
            answer = Client().get(prefix + path)
            assert answer.status_code == 200, path
            assert answer.content


@pytest.mark.slow
def test_uptime_of_past_day_is_exact_and_shown(page: StatusPage, rule: Rule, leaf: StatusComponent) -> None:
    noon = datetime.combine(timezone.now().date() - timedelta(days=2), datetime.min.time(), UTC) + 12 * HOUR
    store_alert(rule, "device_1", noon, noon + timedelta(seconds=4321), group="site a")
    create_maintenance(page, leaf, status="completed", starts_at=noon + timedelta(seconds=321), ends_at=noon + 2 * HOUR)
    refresh_history(page, timezone.now())
    row = leaf.day_rows.get(day=noon.date())
    assert row.down == timedelta(seconds=4321)
    assert row.down_clear == timedelta(seconds=321)
    assert row.known == timedelta(days=1)
    assert row.known_clear == timedelta(days=1) - 2 * HOUR + timedelta(seconds=321)
    leaf.refresh_from_db()
    assert leaf.history.days[-2] == [86400, 4321, 0, 7200 - 321]


def test_host_name_shows_its_page_and_nothing_else(page: StatusPage, leaf: StatusComponent, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["status.example.com", "www.example.com"]
    create_page("own", title="Own page", host_name="status.example.com")
    client = Client()
    answer = client.get("/", headers={"Host": "status.example.com"})
    assert "Own page" in answer.text and 'href="http://status.example.com/history/"' in answer.text
    assert (
        client.get("/api/v2/summary.json", headers={"Host": "status.example.com"}).json()["page"]["name"] == "Own page"
    )
    for path in ("/login/", "/admin/", "/status/main/", "/health"):
        assert client.get(path, headers={"Host": "status.example.com"}).status_code == 404, path
    assert client.get("/status/", headers={"Host": "www.example.com"}).status_code == 200


@pytest.mark.slow
def test_group_is_open_if_a_component_in_it_has_a_fault(page: StatusPage, rule: Rule) -> None:
    for name in ("a", "b"):
        group = create_component(page, f"Group {name}")
        create_component(page, f"Leaf {name}", group, device_groups=[f"site {name}"])
    store_alert(rule, "device_1", timezone.now() - HOUR, group="site a")
    refresh_history(page, timezone.now())
    html = Client().get("/status/").text
    assert html.count("<details open>") == 1 and html.count("<details>") == 1
    html = html[html.index('<ul class="comps"') :]
    assert html.index("<details open>") < html.index("Group a") < html.index("Group b")
    assert html.count("<details") == html.count("</details>") and html.count("<ul") == html.count("</ul>")
