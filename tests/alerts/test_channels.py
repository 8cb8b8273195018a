"""E-mail, Apprise and action channels, with real servers where possible."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.utils import timezone

from alerts.checks import check_actions_importable
from alerts.models import AlertEvent, Channel, Delivery
from alerts.notifications import channel_lifecycle
from alerts.notifications.channels import apprise_, email, ssrf_guard
from alerts.notifications.channels.transport import ChannelMessage, SendFailed
from alerts.notifications.sender import Sender
from metrics.models import DeviceGroup
from rest.caller import OPERATORS
from tests.alerts.factories import create_alerts, create_devices, create_notifying_rule
from tests.alerts.receivers import Mailbox, WebhookReceiver, run_mail_server

received_payloads: list[dict[str, Any]] = []


def store_payload(payload: dict[str, Any]) -> str:
    received_payloads.append(payload)
    return f"{payload['description']} - {payload['severity']}"


def raise_error(payload: dict[str, Any]) -> None:
    raise RuntimeError("the printer is on fire")


@pytest.fixture
def mailbox(site: None, settings: Any) -> Iterator[Mailbox]:
    with run_mail_server() as mailbox:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", mailbox.port
        yield mailbox


def deliver_alert(kind: str, **fields: Any) -> Delivery:
    """Send one alert to a channel of this kind. Returns its delivery."""
    channel_lifecycle.create_channel({"name": "channel", "kind": kind} | fields, "user:admin")
    create_alerts(create_notifying_rule(channels=["channel"], level="critical"), *create_devices(1, "site a"))
    Sender().step(timezone.now())
    return Delivery.objects.get()


def test_email_has_alert_message_and_delivery_id(mailbox: Mailbox) -> None:
    delivery = deliver_alert("email", addresses=["ops@example.com", "chief@example.com"])
    assert (delivery.status, delivery.error) == ("sent", "")
    assert mailbox.recipients == ["ops@example.com", "chief@example.com"]
    (mail,) = mailbox.mails
    assert "Subject: [CRITICAL] too hot at device_0000" in mail
    assert f"Message-ID: <{delivery.delivery_id}@telemetry>" in mail
    assert "critical: too hot at device_0000" in mail


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (("RCPT", "550 nobody here"), "failed"),
        (("RCPT", "450 later"), "waiting"),
        (("DATA", "554 no"), "failed"),
        (("DATA", "451 later"), "waiting"),
        (("MAIL", "552 full"), "failed"),
    ],
    ids=["unknown", "greylisted", "rejected", "busy", "full"],
)
def test_smtp_4xx_is_retried_and_5xx_fails(mailbox: Mailbox, response: tuple[str, str], status: str) -> None:
    mailbox.reject = response
    assert deliver_alert("email", addresses=["ops@example.com"]).status == status


def test_email_without_configured_mail_server_fails_with_reason(site: None) -> None:
    delivery = deliver_alert("email", addresses=["ops@example.com"])
    assert (delivery.status, delivery.error[:28]) == ("failed", "no mail server is configured")


def test_unreachable_mail_server_is_retried(site: None, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    assert deliver_alert("email", addresses=["ops@example.com"]).status == "waiting"


def test_endless_mail_server_response_times_out(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email, "SEND_TIMEOUT", 0.3)
    mailbox.never_ends = True
    started = time.monotonic()
    delivery = deliver_alert("email", addresses=["ops@example.com"])
    assert (delivery.status, delivery.error[:18]) == ("waiting", "mail server error:")
    assert time.monotonic() - started < 4


def test_action_receives_payload_and_its_result_is_stored(site: None, settings: Any) -> None:
    settings.ALERT_ACTIONS = {"remember": "tests.alerts.test_channels.store_payload"}
    received_payloads.clear()
    delivery = deliver_alert("action", action="remember")
    assert (delivery.status, delivery.answer) == ("sent", "too hot at device_0000 - critical")
    assert received_payloads == [delivery.payload]


def test_raising_action_is_retried(site: None, settings: Any) -> None:
    settings.ALERT_ACTIONS = {"fail": "tests.alerts.test_channels.raise_error"}
    delivery = deliver_alert("action", action="fail")
    assert (delivery.status, delivery.error) == ("waiting", "RuntimeError: the printer is on fire")


def test_unregistered_action_fails_with_reason(site: None, settings: Any) -> None:
    channel_lifecycle.create_channel({"name": "channel", "kind": "action", "action": "log_alert"}, "user:admin")
    settings.ALERT_ACTIONS = {}
    create_alerts(create_notifying_rule(channels=["channel"]), *create_devices(1))
    Sender().step(timezone.now())
    assert Delivery.objects.get().error == "no action is registered as 'log_alert'"


def test_log_alert_writes_one_line_per_alert(site: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "alerts.notifications.builtin_actions"):
        deliver_alert("action", action="log_alert")
    [record] = [record for record in caplog.records if record.name == "alerts.notifications.builtin_actions"]
    assert record.levelno == logging.CRITICAL
    assert record.getMessage().startswith("alert.triggered: too hot at device_0000 (alt_")


def test_send_notification_mails_admins_and_operators_of_visible_devices(mailbox: Mailbox) -> None:
    users = get_user_model().objects
    users.create_superuser("chief", "chief@example.com")
    users.create_superuser("mute")
    operators = Group.objects.get_or_create(name=OPERATORS)[0]
    for name, group in (("here", "site a"), ("there", "site b")):
        user = users.create_user(name, f"{name}@example.com")
        user.groups.add(operators)
        DeviceGroup.objects.get_or_create(name=group)[0].members.add(user)
    users.create_user("viewer", "viewer@example.com")
    delivery = deliver_alert("action", action="send_notification")
    assert (delivery.status, delivery.answer) == ("sent", "2 e-mails sent")
    assert mailbox.recipients == ["chief@example.com", "here@example.com"]


def test_apprise_message_has_the_title(receiver: WebhookReceiver) -> None:
    delivery = deliver_alert("apprise", url=f"ntfy://127.0.0.1:{receiver.port}/alerts")
    assert (delivery.status, delivery.error) == ("sent", "")
    assert receiver.requests[0].json["title"] == "[CRITICAL] too hot at device_0000"


def test_apprise_redirect_is_not_followed_and_retried(receiver: WebhookReceiver) -> None:
    receiver.reply = lambda request: (302, {"Location": "http://127.0.0.1:1/"}, b"")
    delivery = deliver_alert("apprise", url=f"ntfy://127.0.0.1:{receiver.port}/alerts?redirect=yes")
    assert (delivery.status, delivery.error) == ("waiting", "ntfy did not accept the message")
    assert "302" in delivery.answer
    assert [request.path for request in receiver.requests] == ["/"]


@pytest.mark.parametrize(
    "url",
    [
        "json://example.com/", "xml://example.com/", "mailto://user:word@example.com", "file:///etc/passwd", "matrix://h/r",
        "syslog://", "dbus://", "windows://", "https://discord.com/api/webhooks/1/a", "discord://", "gotify://example.com",
    ],
)  # fmt: skip
def test_unlisted_or_incomplete_apprise_url_is_rejected(url: str) -> None:
    (error,) = apprise_.AppriseChannel().check(Channel(kind="apprise", url=url))
    assert error[0] == "url"
    assert "must be" in error[1] or "accepted" in error[1]


@pytest.mark.parametrize("scheme", apprise_.SELF_HOSTED_SCHEMES)
@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "169.254.169.254", "localhost"])
def test_apprise_url_with_private_host_is_rejected(scheme: str, host: str) -> None:
    channel = Channel(kind="apprise", url=f"{scheme}://user:word@{host}/abcdefghijklmno/abcdefghijklmnopq")
    (error,) = apprise_.AppriseChannel().check(channel)
    assert "is not a public address" in error[1] or "accepted" in error[1]
    with pytest.raises(SendFailed) as raised:
        apprise_.AppriseChannel().send(
            channel, ChannelMessage("dlv_1", "t", {"alerts": [], "event": "test", "level": "info"})
        )
    assert not raised.value.retry


def test_plain_http_apprise_plugin_uses_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    import ipaddress

    monkeypatch.setattr(
        ssrf_guard, "resolve_allowed_addresses", lambda host, port: [ipaddress.ip_address("93.184.216.34")]
    )
    assert apprise_.create_plugin("ntfy://chat.example/alerts").host == "93.184.216.34"
    assert apprise_.create_plugin("ntfys://chat.example/alerts?verify=no").host == "chat.example"
    assert apprise_.create_plugin("ntfys://chat.example/alerts?verify=no").verify_certificate is True


def test_unexpected_channel_error_does_not_affect_other_channels(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from alerts.notifications.channels import TRANSPORTS

    monkeypatch.setattr(TRANSPORTS["email"], "send", lambda channel, message: 1 / 0)
    channel_lifecycle.create_channel({"name": "log", "kind": "action", "action": "log_alert"}, "user:admin")
    channel_lifecycle.create_channel({"name": "mail", "kind": "email", "addresses": ["a@example.com"]}, "user:admin")
    create_alerts(create_notifying_rule(channels=["mail", "log"]), *create_devices(1))
    Sender().step(timezone.now())
    statuses = dict(Delivery.objects.values_list("channel_name", "status"))
    assert statuses == {"log": "sent", "mail": "waiting"}
    assert AlertEvent.objects.filter(kind="notified", note="log").exists()


def test_system_check_reports_actions_that_cannot_be_imported(settings: Any) -> None:
    assert check_actions_importable() == []
    settings.ALERT_ACTIONS = {
        "a": "nowhere.to.be.found",
        "b": "alerts.notifications.builtin_actions.nothing",
        "c": "alerts.notifications.builtin_actions.log",
    }
    assert [error.msg.partition(":")[0] for error in check_actions_importable()] == ["action a", "action b", "action c"]
