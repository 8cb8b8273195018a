"""Texts of alerts: the same numbers, texts and units in the API, in notifications and on pages."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from alerts import alert_actions
from alerts.evaluation.evaluator import Evaluator
from alerts.models import Alert, Delivery, Resolution, Rule
from alerts.notifications.channels.transport import ChannelMessage
from alerts.notifications.sender import Sender
from metrics.storage.connection import dedicated_connection
from metrics.storage.series_registry import refresh_registry
from tests.alerts.conftest import run, send
from tests.alerts.factories import create_webhook
from tests.alerts.receivers import WebhookReceiver
from tests.conftest import ApiClient, point

CreateRule = Callable[..., Rule]


@pytest.fixture
def browser(site: None) -> Client:
    """A signed-in administrator."""
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("chief"))
    return client


def create_definition(admin: ApiClient, name: str, data_type: str, unit: str = "") -> None:
    response = admin.post("metrics", {"name": name, "data_type": data_type, "unit": unit})
    assert response.status == 201, response.json
    refresh_registry()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("condition", "threshold", "value", "text"),
    [
        ("<", 100, 99.99999, "cpu of boiler is 99.99999, under 100"),
        (">", 100, 100.00001, "cpu of boiler is 100.00001, over 100"),
        (">", 0.3, 0.1 + 0.2, "cpu of boiler is 0.30000000000000004, over 0.3"),
        (">", 90, 97.5, "cpu of boiler is 97.5, over 90"),
        (">", 1_000_000, 123_456_789.25, "cpu of boiler is 123,456,789, over 1,000,000"),
        ("<", -10, -12.5, "cpu of boiler is \N{MINUS SIGN}12.5, under \N{MINUS SIGN}10"),
        (">", 0.0001, 0.00012, "cpu of boiler is 0.00012, over 0.0001"),
    ],
)
def test_value_and_threshold_are_distinguishable_and_the_same_everywhere(
    evaluator: Evaluator, create_cpu_rule: CreateRule, admin: ApiClient, browser: Client, receiver: WebhookReceiver,
    condition: str, threshold: float, value: float, text: str,
) -> None:  # fmt: skip
    create_webhook(receiver.url)
    create_cpu_rule(condition=condition, threshold_value=threshold, notification_channels=["hook"])
    send(admin, value)
    run(evaluator)
    Sender().step(timezone.now())
    [alert] = admin.get("alerts").json["alerts"]
    assert (alert["message"], alert["value"]) == (text, value)
    payload = receiver.requests[0].json
    assert (payload["message"], payload["title"]) == (text, f"[{alert['level'].upper()}] {text}")
    assert f"{alert['level']}: {text}" in ChannelMessage("dlv_1", "", payload).text
    page = browser.get(f"/alerts/{alert['alert_id']}/").content.decode()
    assert f"When it opened: {text}." in page
    rows = browser.get("/alerts/").content.decode()
    assert f"<b>{text.split(' is ')[1].rpartition(', ')[0]}</b>" in rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data_type", "condition", "threshold", "values", "message"),
    [
        ("string", "!=", "ok", ["ok", "FAULT E17"], "state of boiler is FAULT E17, not ok"),
        ("string", "==", "FAULT E17", ["ok", "FAULT E17"], "state of boiler is FAULT E17"),
        ("boolean", "==", True, [False, True], "state of boiler is true"),
        ("boolean", "!=", True, [True, False], "state of boiler is false, not true"),
    ],
)
def test_alert_on_text_or_boolean_shows_the_value_as_sent(
    evaluator: Evaluator, create_cpu_rule: CreateRule, admin: ApiClient, browser: Client, receiver: WebhookReceiver,
    data_type: str, condition: str, threshold: Any, values: list[Any], message: str,
) -> None:  # fmt: skip
    create_definition(admin, "state", data_type)
    create_webhook(receiver.url)
    create_cpu_rule(
        metric_name="state", condition=condition, threshold_value=threshold, notification_channels=["hook"],
        description="{metric} is {value}",
    )  # fmt: skip
    send(admin, *values, metric="state", ago=10)
    run(evaluator)
    Sender().step(timezone.now())
    [listed] = admin.get("alerts").json["alerts"]
    alert = admin.get(f"alerts/{listed['alert_id']}").json
    shown = values[-1]
    assert (alert["message"], alert["value"], alert["worst_value"]) == (message, shown, shown)
    text = str(shown).lower() if isinstance(shown, bool) else shown
    assert alert["description"] == f"state is {text}"
    assert [entry["value"] for entry in alert["evidence"]["values"]] == values
    payload = receiver.requests[0].json
    assert (payload["message"], payload["value"], payload["current_value"]) == (message, shown, shown)
    page = browser.get(f"/alerts/{alert['alert_id']}/").content.decode()
    assert f"When it opened: {message}." in page and f"Now: <b>{text}</b>" in page
    assert f"<b>{text}</b>" in browser.get("/alerts/").content.decode()
    # A restarted evaluator continues the alert, and keeps its value.
    with dedicated_connection() as connection:
        restarted = Evaluator(connection)
        run(restarted)
        send(admin, shown, metric="state")
        run(restarted)
    stored = Alert.objects.get()
    assert (stored.value, stored.worst_value, stored.status) == (shown, shown, "active")


def test_composite_with_a_text_has_no_number_for_it(
    evaluator: Evaluator, create_cpu_rule: CreateRule, admin: ApiClient
) -> None:
    create_definition(admin, "state", "string")
    conditions = [
        {"metric_name": "state", "condition": "!=", "threshold_value": "ok"},
        {"metric_name": "cpu", "condition": ">", "threshold_value": 90},
    ]
    create_cpu_rule(kind="composite", parameters={"operator": "and", "conditions": conditions}, threshold_value=None)
    send(admin, "FAULT", metric="state")
    send(admin, 95.0)
    run(evaluator)
    alert = Alert.objects.get()
    assert (alert.message, alert.value) == ("boiler: state is not ok and cpu over 90", None)


@pytest.mark.slow
def test_unit_sent_with_the_point_is_shown_where_none_is_defined(
    evaluator: Evaluator, create_cpu_rule: CreateRule, admin: ApiClient, browser: Client
) -> None:
    create_cpu_rule(description="{value} {unit}", runbook_url="https://wiki/{device}?v={value}&u={unit}")
    body = {"data_points": [point("cpu", 95.5, unit="°C")]}
    assert admin.post("devices/a%20b/telemetry/batch", body).status == 200
    run(evaluator)
    alert = Alert.objects.get()
    assert alert.message == "cpu of a b is 95.5 °C, over 90 °C"
    assert (alert.description, alert.runbook_url) == ("95.5 °C", "https://wiki/a%20b?v=95.5&u=%C2%B0C")
    assert "95.5\N{NO-BREAK SPACE}°C" in browser.get("/alerts/").content.decode()


def test_defined_unit_is_shown_and_counts_have_none(
    evaluator: Evaluator, create_cpu_rule: CreateRule, admin: ApiClient
) -> None:
    create_definition(admin, "cpu", "numeric", "percent")
    create_cpu_rule()
    create_cpu_rule(name="many", aggregation="count", threshold_value=2)
    send(admin, 91, 92, 93)
    run(evaluator)
    messages = set(Alert.objects.values_list("message", flat=True))
    assert messages == {"cpu of boiler is 91 %, over 90 %", "count of cpu over 5 min of boiler is 3, over 2"}


def test_later_titles_have_the_peak_and_the_current_value(
    evaluator: Evaluator, create_cpu_rule: CreateRule, admin: ApiClient, receiver: WebhookReceiver
) -> None:
    create_webhook(receiver.url)
    create_cpu_rule(name="Too hot", notification_channels=["hook"], auto_resolve=False)
    send(admin, 95, 120.5, 99, 85)
    run(evaluator)
    Sender().step(timezone.now())
    alert = Alert.objects.get()
    assert alert.worst_value == 120.5
    alert_actions.resolve(Alert.objects.all(), Resolution.PERSON, "user:mei")
    Sender().step(timezone.now() + timedelta(seconds=1))
    titles = list(Delivery.objects.order_by("pk").values_list("title", flat=True))
    assert titles == [
        "[WARNING] cpu of boiler is 95, over 90",
        "[RESOLVED] Too hot: cpu of boiler, peak 120.5, now 85",
    ]
    payload = receiver.requests[1].json
    assert (payload["value"], payload["worst_value"], payload["current_value"]) == (95.0, 120.5, 85.0)
    assert "peak 120.5 · now 85" in ChannelMessage("dlv_1", "", payload).text
