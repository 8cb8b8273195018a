"""E-mail, messengers and actions: through real servers where there is one."""

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

called: list[dict[str, Any]] = []


def remember(alert: dict[str, Any]) -> str:
    called.append(alert)
    return f"{alert['description']} - {alert['severity']}"


def fail(alert: dict[str, Any]) -> None:
    raise RuntimeError("the printer is on fire")


@pytest.fixture
def mailbox(site: None, settings: Any) -> Iterator[Mailbox]:
    with run_mail_server() as found:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", found.port
        yield found


def told(kind: str, **fields: Any) -> Delivery:
    """The delivery of one alert to a channel of this kind."""
    channel_lifecycle.create_channel({"name": "channel", "kind": kind} | fields, "user:admin")
    create_alerts(create_notifying_rule(channels=["channel"], level="critical"), *create_devices(1, "site a"))
    Sender().step(timezone.now())
    return Delivery.objects.get()


def test_an_email_says_what_is_wrong_and_has_one_id_for_all_attempts(mailbox: Mailbox) -> None:
    delivery = told("email", addresses=["ops@example.com", "chief@example.com"])
    assert (delivery.status, delivery.error) == ("sent", "")
    assert mailbox.recipients == ["ops@example.com", "chief@example.com"]
    (mail,) = mailbox.mails
    assert "Subject: [CRITICAL] too hot at device_0000" in mail
    assert f"Message-ID: <{delivery.delivery_id}@telemetry>" in mail
    assert "critical: too hot at device_0000" in mail


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (("RCPT", "550 nobody here"), "failed"),
        (("RCPT", "450 later"), "waiting"),
        (("DATA", "554 no"), "failed"),
        (("DATA", "451 later"), "waiting"),
        (("MAIL", "552 full"), "failed"),
    ],
    ids=["unknown", "greylisted", "refused", "busy", "full"],
)
def test_a_mail_server_that_refuses_for_good_is_believed(
    mailbox: Mailbox, answer: tuple[str, str], status: str
) -> None:
    mailbox.reject = answer
    assert told("email", addresses=["ops@example.com"]).status == status


def test_without_a_mail_server_the_delivery_says_so(site: None) -> None:
    delivery = told("email", addresses=["ops@example.com"])
    assert (delivery.status, delivery.error[:28]) == ("failed", "no mail server is configured")


def test_a_mail_server_that_is_not_there_is_tried_again(site: None, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    assert told("email", addresses=["ops@example.com"]).status == "waiting"


def test_a_mail_server_that_never_ends_its_answer_is_cut_off(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email, "SEND_TIMEOUT", 0.3)
    mailbox.never_ends = True
    begun = time.monotonic()
    delivery = told("email", addresses=["ops@example.com"])
    assert (delivery.status, delivery.error[:18]) == ("waiting", "mail server error:")
    assert time.monotonic() - begun < 4


def test_an_action_gets_the_alert_and_what_it_returns_is_kept(site: None, settings: Any) -> None:
    settings.ALERT_ACTIONS = {"remember": "tests.alerts.test_channels.remember"}
    called.clear()
    delivery = told("action", action="remember")
    assert (delivery.status, delivery.answer) == ("sent", "too hot at device_0000 - critical")
    assert called == [delivery.payload]


def test_an_action_that_raises_is_called_again(site: None, settings: Any) -> None:
    settings.ALERT_ACTIONS = {"fail": "tests.alerts.test_channels.fail"}
    delivery = told("action", action="fail")
    assert (delivery.status, delivery.error) == ("waiting", "RuntimeError: the printer is on fire")


def test_an_action_that_is_registered_no_more_fails_and_says_so(site: None, settings: Any) -> None:
    channel_lifecycle.create_channel({"name": "channel", "kind": "action", "action": "log_alert"}, "user:admin")
    settings.ALERT_ACTIONS = {}
    create_alerts(create_notifying_rule(channels=["channel"]), *create_devices(1))
    Sender().step(timezone.now())
    assert Delivery.objects.get().error == "no action is registered as 'log_alert'"


def test_log_alert_writes_a_line_for_each_alert(site: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "alerts.notifications.builtin_actions"):
        told("action", action="log_alert")
    (line,) = [record for record in caplog.records if record.name == "alerts.notifications.builtin_actions"]
    assert line.levelno == logging.CRITICAL
    assert line.getMessage().startswith("alert.triggered: too hot at device_0000 (alt_")


def test_send_notification_mails_those_who_operate_what_they_see(mailbox: Mailbox) -> None:
    users = get_user_model().objects
    users.create_superuser("chief", "chief@example.com")
    users.create_superuser("mute")
    operators = Group.objects.get_or_create(name=OPERATORS)[0]
    for name, group in (("here", "site a"), ("there", "site b")):
        user = users.create_user(name, f"{name}@example.com")
        user.groups.add(operators)
        DeviceGroup.objects.get_or_create(name=group)[0].members.add(user)
    users.create_user("viewer", "viewer@example.com")
    delivery = told("action", action="send_notification")
    assert (delivery.status, delivery.answer) == ("sent", "2 e-mails sent")
    assert mailbox.recipients == ["chief@example.com", "here@example.com"]


def test_a_messenger_is_told_through_apprise(receiver: WebhookReceiver) -> None:
    delivery = told("apprise", url=f"ntfy://127.0.0.1:{receiver.port}/alerts")
    assert (delivery.status, delivery.error) == ("sent", "")
    assert receiver.requests[0].json["title"] == "[CRITICAL] too hot at device_0000"


def test_a_messenger_that_refuses_or_redirects_is_tried_again(receiver: WebhookReceiver) -> None:
    receiver.reply = lambda request: (302, {"Location": "http://127.0.0.1:1/"}, b"")
    delivery = told("apprise", url=f"ntfy://127.0.0.1:{receiver.port}/alerts?redirect=yes")
    assert (delivery.status, delivery.error) == ("waiting", "ntfy did not accept the message")
    assert "302" in delivery.answer
    assert [one.path for one in receiver.requests] == ["/"]


@pytest.mark.parametrize(
    "url",
    [
        "json://example.com/", "xml://example.com/", "mailto://user:word@example.com", "file:///etc/passwd", "matrix://h/r",
        "syslog://", "dbus://", "windows://", "https://discord.com/api/webhooks/1/a", "discord://", "gotify://example.com",
    ],
)  # fmt: skip
def test_a_scheme_that_is_not_listed_or_not_whole_is_refused(url: str) -> None:
    (error,) = apprise_.AppriseChannel().check(Channel(kind="apprise", url=url))
    assert error[0] == "url"
    assert "must be" in error[1] or "accepted" in error[1]


@pytest.mark.parametrize("scheme", apprise_.SELF_HOSTED_SCHEMES)
@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "169.254.169.254", "localhost"])
def test_a_messenger_inside_is_refused(scheme: str, host: str) -> None:
    channel = Channel(kind="apprise", url=f"{scheme}://user:word@{host}/abcdefghijklmno/abcdefghijklmnopq")
    (error,) = apprise_.AppriseChannel().check(channel)
    assert "is not a public address" in error[1] or "accepted" in error[1]
    with pytest.raises(SendFailed) as refused:
        apprise_.AppriseChannel().send(
            channel, ChannelMessage("dlv_1", "t", {"alerts": [], "event": "test", "level": "info"})
        )
    assert not refused.value.retry


def test_a_plain_messenger_is_asked_at_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    import ipaddress

    monkeypatch.setattr(
        ssrf_guard, "resolve_allowed_addresses", lambda host, port: [ipaddress.ip_address("93.184.216.34")]
    )
    assert apprise_.create_plugin("ntfy://chat.example/alerts").host == "93.184.216.34"
    assert apprise_.create_plugin("ntfys://chat.example/alerts?verify=no").host == "chat.example"
    assert apprise_.create_plugin("ntfys://chat.example/alerts?verify=no").verify_certificate is True


def test_a_channel_that_raises_what_nobody_expected_harms_no_other(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from alerts.notifications.channels import TRANSPORTS

    monkeypatch.setattr(TRANSPORTS["email"], "send", lambda channel, message: 1 / 0)
    channel_lifecycle.create_channel({"name": "log", "kind": "action", "action": "log_alert"}, "user:admin")
    channel_lifecycle.create_channel({"name": "mail", "kind": "email", "addresses": ["a@example.com"]}, "user:admin")
    create_alerts(create_notifying_rule(channels=["mail", "log"]), *create_devices(1))
    Sender().step(timezone.now())
    found = dict(Delivery.objects.values_list("channel_name", "status"))
    assert found == {"log": "sent", "mail": "waiting"}
    assert AlertEvent.objects.filter(kind="notified", note="log").exists()


def test_an_action_that_is_no_function_is_told_at_the_start(settings: Any) -> None:
    assert check_actions_importable() == []
    settings.ALERT_ACTIONS = {
        "a": "nowhere.to.be.found",
        "b": "alerts.notifications.builtin_actions.nothing",
        "c": "alerts.notifications.builtin_actions.log",
    }
    assert [error.msg.partition(":")[0] for error in check_actions_importable()] == ["action a", "action b", "action c"]
