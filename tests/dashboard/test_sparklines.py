"""The sparklines of the inbox."""

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
from tests.dashboard.conftest import BrowserPage, in_thread, sign_in
from tests.dashboard.factories import client_of, open_alert, queryset_of
from tests.metrics.test_damage import damage_all
from tests.telemetry_site.test_statements import record_statements

MINUTE = 60


@pytest.fixture
def rule(site: None) -> Rule:
    return lifecycle.create({"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0}, "user:mei")


def send_values(gateway: ApiClient, device_id: str, values: dict[float, Any], metric: str = "temperature") -> None:
    """Store values by their age in minutes."""
    points = [point(metric, value, seconds_ago=ago * MINUTE) for ago, value in values.items()]
    assert gateway.post(f"devices/{device_id}/telemetry/batch", {"data_points": points}).status == 200


def get_sparklines(client: Client, *alerts: Alert) -> Any:
    return client.get("/alerts/sparklines/", {"shown": ",".join(alert.alert_id for alert in alerts)}).json()


def sparkline_of(client: Client, alert: Alert) -> Any:
    return get_sparklines(client, alert)["alerts"][alert.alert_id]


def resolve(alert: Alert) -> Alert:
    alert_actions.resolve(queryset_of(alert), Resolution.RECOVERED, "evaluator")
    return alert


class TestSparkline:
    def test_open_alert_has_the_last_hour_and_its_threshold(self, client: Client, rule: Rule, gateway: ApiClient):
        send_values(gateway, "room-7", {70: 9, 50: 1, 5: 3, 0: 4.5})
        sparkline = sparkline_of(client, open_alert(rule, "room-7", "Room 7 is too warm", minutes_ago=300))
        assert (sparkline["values"], sparkline["threshold"], sparkline["until"]) == ([1, 3, 4.5], 2.0, None)
        assert sparkline["times"] == sorted(sparkline["times"]) and sparkline["kind"] == "number"

    def test_resolved_alert_has_the_hour_around_its_start(self, client: Client, rule: Rule, gateway: ApiClient):
        send_values(gateway, "room-7", {160: 9, 140: 1, 119: 3, 100: 1, 85: 7, 0: 8})
        alert = resolve(open_alert(rule, "room-7", "Room 7 is too warm", minutes_ago=120))
        sparkline = sparkline_of(client, alert)
        end = alert.triggered_at + timedelta(minutes=30)
        assert sparkline["values"] == [1, 3, 1] and sparkline["until"] == round(end.timestamp() * 1000)

    @pytest.mark.slow
    def test_alerts_of_one_query_have_their_own_windows(self, client: Client, rule: Rule, gateway: ApiClient):
        send_values(gateway, "a", {n: n for n in range(100, 300, 5)})
        alerts = [resolve(open_alert(rule, "a", f"alert {n}", minutes_ago=n)) for n in (150, 155, 240)]
        for alert, ago in zip(alerts, (150, 155, 240), strict=True):
            values = sparkline_of(client, alert)["values"]
            assert values == get_sparklines(client, *alerts)["alerts"][alert.alert_id]["values"]
            assert set(values) <= set(range(ago - 30, ago + 31)) and len(values) in (12, 13)

    def test_sparkline_is_downsampled_and_keeps_the_peak(self, client: Client, rule: Rule, gateway: ApiClient):
        send_values(gateway, "room-7", {n / 20: 100 if n == 421 else n % 3 for n in range(900)})
        values = sparkline_of(client, open_alert(rule, "room-7", "Room 7 is too warm"))["values"]
        assert len(values) <= 2 * MAX_POINTS + 1 and max(values) == 100

    def test_booleans_have_a_sparkline_and_texts_have_none(self, client: Client, rule: Rule, gateway: ApiClient):
        send_values(gateway, "door", {20: True, 10: False, 1: True}, "open")
        send_values(gateway, "door", {20: "shut", 10: "ajar"}, "state")
        door, state = (open_alert(rule, "door", name, metric_name=name, threshold=True) for name in ("open", "state"))
        sparkline = sparkline_of(client, door)
        assert (sparkline["kind"], sparkline["values"], sparkline["threshold"]) == ("boolean", [1, 0, 1], None)
        assert sparkline_of(client, state)["values"] == []

    def test_series_without_points_has_an_empty_sparkline(self, client: Client, rule: Rule):
        assert sparkline_of(client, open_alert(rule, "room-7", "Room 7 is not heard", value=None))["values"] == []

    @pytest.mark.slow
    def test_alerts_of_any_metric_or_deleted_device_have_no_sparkline(
        self, client: Client, rule: Rule, gateway: ApiClient
    ):
        any_metric_alert = open_alert(rule, "pump-2", "Pump 2 is silent", metric_name="*")
        deleted_device_alert = open_alert(rule, "room-7", "Room 7 is too warm")
        Device.objects.filter(device_id="room-7").delete()
        send_values(gateway, "room-7", {5: 1, 1: 2})  # another device of the same name
        assert get_sparklines(client, any_metric_alert, deleted_device_alert) == {"alerts": {}, "incomplete": []}
        assert '<span class="course"></span>' in client.get("/alerts/").content.decode()

    @pytest.mark.parametrize(
        ("fields", "threshold"),
        [
            ({"kind": "trend", "parameters": {"measure": "slope"}}, None),
            ({"aggregation": "count"}, None),
            ({"aggregation": "rate"}, None),
            ({"aggregation": "p95"}, 2.0),
            ({"kind": "forecast", "parameters": {"horizon": 60}}, 2.0),
        ],
    )
    def test_threshold_of_slopes_and_counts_is_not_drawn(
        self, client: Client, fields: dict[str, Any], threshold: float | None
    ):
        rule_fields = {"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0} | fields
        alert = open_alert(lifecycle.create(rule_fields, "user:mei"), "room-7", "Room 7 warms up")
        assert sparkline_of(client, alert)["threshold"] == threshold
        page = client.get(f"/alerts/{alert.alert_id}/").content.decode()
        assert ('"text": "Threshold 2' in page) is (threshold is not None)

    def test_damaged_blocks_are_reported_as_incomplete(self, client: Client, rule: Rule, gateway: ApiClient):
        send_values(gateway, "room-7", {5: 1})
        damage_all("metrics_young")
        sparkline = get_sparklines(client, open_alert(rule, "room-7", "Room 7 is too warm"))
        assert sparkline["incomplete"] == ["unmerged block 1 is damaged and was left out"]


class TestPermissions:
    @pytest.mark.slow
    def test_viewer_gets_sparklines_of_visible_devices(self, rule: Rule, gateway: ApiClient):
        visible_alert, hidden_alert = (
            open_alert(rule, name, f"{name} is too warm") for name in ("room-7", "elsewhere")
        )
        Device.objects.get(device_id="room-7").groups.add(DeviceGroup.objects.create(name="site a"))
        for name in ("room-7", "elsewhere"):
            send_values(gateway, name, {5: 1, 1: 4})
        assert set(get_sparklines(client_of("v"), visible_alert, hidden_alert)["alerts"]) == {visible_alert.alert_id}
        assert get_sparklines(client_of("w", group="site b"), visible_alert, hidden_alert)["alerts"] == {}

    def test_sparklines_require_login_and_reject_post(self, client: Client):
        assert Client().get("/alerts/sparklines/")["Location"].startswith("/login/")
        assert client.post("/alerts/sparklines/").status_code == 405

    @pytest.mark.parametrize("shown", ["", "x", "\0", ",,,", "alt_none," * 500])
    def test_invalid_parameters_are_ignored(self, client: Client, shown: str):
        assert client.get("/alerts/sparklines/", {"shown": shown}).json() == {"alerts": {}, "incomplete": []}


class TestCost:
    @pytest.mark.slow
    def test_number_of_statements_does_not_grow_with_rows(
        self, rule: Rule, admin: ApiClient, monkeypatch: pytest.MonkeyPatch
    ):
        """All series are read by one query."""
        alerts = [open_alert(rule, f"d{n}", f"alert {n}", metric_name=f"m{n % 20}") for n in range(MAX_SPARKLINES + 10)]
        points = {f"d{n}": [point(f"m{m}", m, seconds_ago=m) for m in range(20)] for n in range(MAX_SPARKLINES + 10)}
        assert admin.post("bulk", points).status == 200
        client = Client()
        client.force_login(get_user_model().objects.create_superuser("boss"))
        sparklines = get_sparklines(client, *alerts)["alerts"]
        assert len(sparklines) == MAX_SPARKLINES and all(
            len(sparkline["values"]) == 1 for sparkline in sparklines.values()
        )
        statement_counts = []
        for shown_alerts in (alerts[:2], alerts):
            with record_statements(monkeypatch) as statements:
                get_sparklines(client, *shown_alerts)
            statement_counts.append(len(statements))
        assert statement_counts[0] <= 16 and statement_counts[1] <= 48, statement_counts

    @pytest.mark.slow
    def test_inbox_itself_reads_no_points(self, client: Client, rule: Rule, monkeypatch: pytest.MonkeyPatch):
        open_alert(rule, "room-7", "Room 7 is too warm")
        monkeypatch.setattr("dashboard.sparklines.execute_query", None)
        assert client.get("/alerts/").status_code == 200


DRAWN_SPARKLINE = """(row) => {
    const [line, path] = [row.querySelector(".spark .limit"), row.querySelector(".spark path")];
    return [path.getAttribute("d"), line.getAttribute("x2"), line.getAttribute("y1")];
}"""


class TestBrowser:
    @pytest.fixture
    def rows(self, rule: Rule, gateway: ApiClient) -> list[Alert]:
        send_values(gateway, "room-7", {30: 1, 20: 1, 10: 3, 0.1: 4})
        send_values(gateway, "room-8", {5: "shut", 3: "shut"}, "state")
        warm_room_alert = open_alert(rule, "room-7", "Room 7 is too warm", level="critical")
        return [warm_room_alert, open_alert(rule, "room-8", "Room 8 is open", metric_name="state", threshold="open")]

    @pytest.mark.slow
    def test_rows_get_sparklines_without_moving(self, rows: list[Alert], desktop: BrowserPage):
        desktop.page.route("**/alerts/sparklines/**", lambda route: held_routes.append(route))
        held_routes: list[Any] = []
        sign_in(desktop, "/alerts/")
        first, second = (desktop.page.locator(f"[data-alert={alert.alert_id}]") for alert in rows)
        expect(first.locator(".spark path")).not_to_have_attribute("d", re.compile("."))
        desktop.page.wait_for_function("() => document.readyState === 'complete'")
        boxes_before = [element.bounding_box() for element in (first, second, first.locator(".age"))]
        while not held_routes:
            desktop.page.wait_for_timeout(20)
        assert len(held_routes) == 1  # one request for all rows
        held_routes[0].continue_()
        expect(first.locator(".spark path")).to_have_attribute("d", re.compile(r"^M\d+.*L"))
        path, end, height = first.evaluate(DRAWN_SPARKLINE)
        assert path.count("L") == 3 and end == "1000" and 8 < float(height) < 92
        assert second.evaluate(DRAWN_SPARKLINE) == [None, None, None]
        assert [element.bounding_box() for element in (first, second, first.locator(".age"))] == boxes_before
        assert first.locator(".spark").get_attribute("aria-hidden") == "true"

    @pytest.mark.slow
    def test_visible_sparklines_are_refreshed(self, rows: list[Alert], desktop: BrowserPage, gateway: ApiClient):
        sign_in(desktop, "/alerts/")
        desktop.page.clock.install()
        desktop.page.reload()
        path = desktop.page.locator(f"[data-alert={rows[0].alert_id}] .spark path")
        expect(path).to_have_attribute("d", re.compile(r"^M[^L]*(L[^L]*){3}$"))
        in_thread(send_values, gateway, "room-7", {0: 5})
        desktop.page.clock.run_for(61_000)
        expect(path).to_have_attribute("d", re.compile(r"^M[^L]*(L[^L]*){4}$"))

    @pytest.mark.slow
    def test_phone_requests_no_sparklines(self, rows: list[Alert], phone: BrowserPage):
        requested_urls: list[str] = []
        phone.page.on("request", lambda request: requested_urls.append(request.url))
        sign_in(phone, "/alerts/")
        expect(phone.page.locator(".arow .course").first).to_be_hidden()
        expect(phone.page.locator("#live")).to_have_text(re.compile("^Live"))  # all scripts have run by then
        assert any("/inbox.js" in url for url in requested_urls) and not any(
            "/alerts/sparklines/" in url for url in requested_urls
        )
