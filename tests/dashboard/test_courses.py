"""The lines in the rows of the inbox: what each metric did around its breach, asked for once the page stands."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from playwright.sync_api import expect

from alerts import alert_actions
from alerts.models import Alert, Resolution, Rule
from alerts.rules import lifecycle
from dashboard.sparklines import MAX_POINTS, MAX_SPARKLINES
from metrics.models import Device, DeviceGroup
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import Desk, sign_in
from tests.dashboard.test_alert_pages import of, person, raised
from tests.dashboard.test_alerts_browser import elsewhere
from tests.metrics.test_damage import damage_all
from tests.telemetry_site.test_statements import counted

MINUTE = 60


@pytest.fixture
def rule(site: None) -> Rule:
    return lifecycle.create({"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0}, "user:mei")


def measured(gateway: ApiClient, device_id: str, values: dict[float, Any], metric: str = "temperature") -> None:
    """Values by how many minutes ago they were measured."""
    points = [point(metric, value, seconds_ago=ago * MINUTE) for ago, value in values.items()]
    assert gateway.post(f"devices/{device_id}/telemetry/batch", {"data_points": points}).status == 200


def told(client: Client, *alerts: Alert) -> Any:
    return client.get("/alerts/sparklines/", {"shown": ",".join(alert.alert_id for alert in alerts)}).json()


def course(client: Client, alert: Alert) -> Any:
    return told(client, alert)["alerts"][alert.alert_id]


def over(alert: Alert) -> Alert:
    alert_actions.resolve(of(alert), Resolution.RECOVERED, "evaluator")
    return alert


class TestOneCourse:
    def test_of_an_open_alert_it_is_the_last_hour_with_the_limit(self, client: Client, rule: Rule, gateway: ApiClient):
        measured(gateway, "room-7", {70: 9, 50: 1, 5: 3, 0: 4.5})
        found = course(client, raised(rule, "room-7", "Room 7 is too warm", minutes_ago=300))
        assert (found["values"], found["threshold"], found["until"]) == ([1, 3, 4.5], 2.0, None)
        assert found["times"] == sorted(found["times"]) and found["kind"] == "number"

    def test_of_one_that_is_over_it_is_the_hour_around_its_beginning(
        self, client: Client, rule: Rule, gateway: ApiClient
    ):
        measured(gateway, "room-7", {160: 9, 140: 1, 119: 3, 100: 1, 85: 7, 0: 8})
        alert = over(raised(rule, "room-7", "Room 7 is too warm", minutes_ago=120))
        found = course(client, alert)
        end = alert.triggered_at + timedelta(minutes=30)
        assert found["values"] == [1, 3, 1] and found["until"] == round(end.timestamp() * 1000)

    def test_those_of_one_hour_have_each_their_own_part_of_it(self, client: Client, rule: Rule, gateway: ApiClient):
        measured(gateway, "a", {n: n for n in range(100, 300, 5)})
        alerts = [over(raised(rule, "a", f"alert {n}", minutes_ago=n)) for n in (150, 155, 240)]
        for alert, ago in zip(alerts, (150, 155, 240), strict=True):
            values = course(client, alert)["values"]
            assert values == told(client, *alerts)["alerts"][alert.alert_id]["values"]
            assert set(values) <= set(range(ago - 30, ago + 31)) and len(values) in (12, 13)

    def test_it_is_no_longer_than_can_be_seen_and_keeps_the_peak(self, client: Client, rule: Rule, gateway: ApiClient):
        measured(gateway, "room-7", {n / 20: 100 if n == 421 else n % 3 for n in range(900)})
        values = course(client, raised(rule, "room-7", "Room 7 is too warm"))["values"]
        assert len(values) <= 2 * MAX_POINTS + 1 and max(values) == 100

    def test_truth_values_are_steps_and_words_are_nothing(self, client: Client, rule: Rule, gateway: ApiClient):
        measured(gateway, "door", {20: True, 10: False, 1: True}, "open")
        measured(gateway, "door", {20: "shut", 10: "ajar"}, "state")
        door, state = (raised(rule, "door", name, metric_name=name, threshold=True) for name in ("open", "state"))
        found = course(client, door)
        assert (found["kind"], found["values"], found["threshold"]) == ("boolean", [1, 0, 1], None)
        assert course(client, state)["values"] == []

    def test_where_nothing_was_measured_there_is_nothing(self, client: Client, rule: Rule):
        assert course(client, raised(rule, "room-7", "Room 7 is not heard", value=None))["values"] == []

    def test_of_any_metric_and_of_a_device_that_is_gone_there_is_none(
        self, client: Client, rule: Rule, gateway: ApiClient
    ):
        silent = raised(rule, "pump-2", "Pump 2 is silent", metric_name="*")
        gone = raised(rule, "room-7", "Room 7 is too warm")
        Device.objects.filter(device_id="room-7").delete()
        measured(gateway, "room-7", {5: 1, 1: 2})  # another device of the same name
        assert told(client, silent, gone) == {"alerts": {}, "incomplete": []}
        assert '<span class="course"></span>' in client.get("/alerts/").content.decode()

    @pytest.mark.parametrize(
        ("fields", "limit"),
        [
            ({"kind": "trend", "parameters": {"measure": "slope"}}, None),
            ({"aggregation": "count"}, None),
            ({"aggregation": "rate"}, None),
            ({"aggregation": "p95"}, 2.0),
            ({"kind": "forecast", "parameters": {"horizon": 60}}, 2.0),
        ],
    )
    def test_a_limit_that_is_none_of_the_values_is_not_among_them(
        self, client: Client, fields: dict[str, Any], limit: float | None
    ):
        given = {"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0} | fields
        alert = raised(lifecycle.create(given, "user:mei"), "room-7", "Room 7 warms up")
        assert course(client, alert)["threshold"] == limit
        page = client.get(f"/alerts/{alert.alert_id}/").content.decode()
        assert ('"text": "Threshold 2' in page) is (limit is not None)

    def test_what_cannot_be_read_is_said(self, client: Client, rule: Rule, gateway: ApiClient):
        measured(gateway, "room-7", {5: 1})
        damage_all("metrics_young")
        found = told(client, raised(rule, "room-7", "Room 7 is too warm"))
        assert found["incomplete"] == ["unmerged block 1 is damaged and was left out"]


class TestWhoSeesWhat:
    def test_a_reader_sees_those_of_their_devices(self, rule: Rule, gateway: ApiClient):
        mine, theirs = (raised(rule, name, f"{name} is too warm") for name in ("room-7", "elsewhere"))
        Device.objects.get(device_id="room-7").groups.add(DeviceGroup.objects.create(name="site a"))
        for name in ("room-7", "elsewhere"):
            measured(gateway, name, {5: 1, 1: 4})
        assert set(told(person("v"), mine, theirs)["alerts"]) == {mine.alert_id}
        assert told(person("w", group="site b"), mine, theirs)["alerts"] == {}

    def test_nobody_sees_any_without_signing_in_and_a_page_only_shows(self, client: Client):
        assert Client().get("/alerts/sparklines/")["Location"].startswith("/login/")
        assert client.post("/alerts/sparklines/").status_code == 405

    @pytest.mark.parametrize("shown", ["", "x", "\0", ",,,", "alt_none," * 500])
    def test_any_words_are_answered(self, client: Client, shown: str):
        assert client.get("/alerts/sparklines/", {"shown": shown}).json() == {"alerts": {}, "incomplete": []}


class TestCost:
    def test_many_rows_cost_what_a_few_do(self, rule: Rule, admin: ApiClient, monkeypatch: pytest.MonkeyPatch):
        """The series are read together, twice as many each time, however many metrics there are."""
        alerts = [raised(rule, f"d{n}", f"alert {n}", metric_name=f"m{n % 20}") for n in range(MAX_SPARKLINES + 10)]
        points = {f"d{n}": [point(f"m{m}", m, seconds_ago=m) for m in range(20)] for n in range(MAX_SPARKLINES + 10)}
        assert admin.post("bulk", points).status == 200
        client = Client()
        client.force_login(get_user_model().objects.create_superuser("boss"))
        found = told(client, *alerts)["alerts"]
        assert len(found) == MAX_SPARKLINES and all(len(one["values"]) == 1 for one in found.values())
        costs = []
        for some in (alerts[:2], alerts):
            with counted(monkeypatch) as sent:
                told(client, *some)
            costs.append(len(sent))
        assert costs[0] <= 16 and costs[1] <= 48, costs

    def test_the_list_itself_reads_no_course(self, client: Client, rule: Rule, monkeypatch: pytest.MonkeyPatch):
        raised(rule, "room-7", "Room 7 is too warm")
        monkeypatch.setattr("dashboard.sparklines.execute_query", None)
        assert client.get("/alerts/").status_code == 200


COURSE = """(row) => {
    const [line, path] = [row.querySelector(".spark .limit"), row.querySelector(".spark path")];
    return [path.getAttribute("d"), line.getAttribute("x2"), line.getAttribute("y1")];
}"""


class TestInTheBrowser:
    @pytest.fixture
    def rows(self, rule: Rule, gateway: ApiClient) -> list[Alert]:
        measured(gateway, "room-7", {30: 1, 20: 1, 10: 3, 0.1: 4})
        measured(gateway, "room-8", {5: "shut", 3: "shut"}, "state")
        open_one = raised(rule, "room-7", "Room 7 is too warm", level="critical")
        return [open_one, raised(rule, "room-8", "Room 8 is open", metric_name="state", threshold="open")]

    def test_each_row_has_its_line_and_limit_and_nothing_moves(self, rows: list[Alert], desk: Desk):
        desk.page.route("**/alerts/sparklines/**", lambda route: held.append(route))
        held: list[Any] = []
        sign_in(desk, "/alerts/")
        first, second = (desk.page.locator(f"[data-alert={alert.alert_id}]") for alert in rows)
        expect(first.locator(".spark path")).not_to_have_attribute("d", re.compile("."))
        desk.page.wait_for_function("() => document.readyState === 'complete'")
        before = [one.bounding_box() for one in (first, second, first.locator(".age"))]
        while not held:
            desk.page.wait_for_timeout(20)
        assert len(held) == 1  # for all rows
        held[0].continue_()
        expect(first.locator(".spark path")).to_have_attribute("d", re.compile(r"^M\d+.*L"))
        path, end, height = first.evaluate(COURSE)
        assert path.count("L") == 3 and end == "1000" and 8 < float(height) < 92
        assert second.evaluate(COURSE) == [None, None, None]
        assert [one.bounding_box() for one in (first, second, first.locator(".age"))] == before
        assert first.locator(".spark").get_attribute("aria-hidden") == "true"

    def test_they_follow_while_somebody_looks(self, rows: list[Alert], desk: Desk, gateway: ApiClient):
        sign_in(desk, "/alerts/")
        desk.page.clock.install()
        desk.page.reload()
        path = desk.page.locator(f"[data-alert={rows[0].alert_id}] .spark path")
        expect(path).to_have_attribute("d", re.compile(r"^M[^L]*(L[^L]*){3}$"))
        elsewhere(measured, gateway, "room-7", {0: 5})
        desk.page.clock.run_for(61_000)
        expect(path).to_have_attribute("d", re.compile(r"^M[^L]*(L[^L]*){4}$"))

    def test_a_phone_has_no_room_for_them_and_asks_for_none(self, rows: list[Alert], phone: Desk):
        asked: list[str] = []
        phone.page.on("request", lambda request: asked.append(request.url))
        sign_in(phone, "/alerts/")
        expect(phone.page.locator(".arow .course").first).to_be_hidden()
        phone.page.wait_for_load_state("networkidle")
        assert any("/inbox.js" in url for url in asked) and not any("/alerts/sparklines/" in url for url in asked)
