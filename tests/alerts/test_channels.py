"""E-mail, Apprise and action channels, with real servers where possible."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.utils import timezone

from alerts.checks import check_actions_importable
from alerts.models import AlertEvent, Channel, Delivery
from alerts.notifications import builtin_actions, channel_lifecycle, messages
from alerts.notifications.channels import apprise_, email
from alerts.notifications.channels.transport import ChannelMessage, SendFailed
from alerts.notifications.sender import Sender
from metrics.models import DeviceGroup
from rest.caller import OPERATORS
from tests.alerts.factories import create_alerts, create_device, create_devices, create_notifying_rule
from tests.alerts.receivers import Mailbox, WebhookReceiver, run_dripping_server, run_mail_server

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
    assert len(mailbox.mails) == 2
    for mail in mailbox.mails:
        assert "Subject: [CRITICAL] too hot at device_0000" in mail
        assert "To: ops@example.com, chief@example.com" in mail
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


@pytest.mark.slow
def test_endless_mail_server_response_times_out(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email, "SEND_TIMEOUT", 0.3)
    mailbox.never_ends = True
    started = time.monotonic()
    delivery = deliver_alert("email", addresses=["ops@example.com"])
    assert (delivery.status, delivery.error[:18]) == ("waiting", "mail server error:")
    assert time.monotonic() - started < 4


@pytest.mark.slow
def test_dripping_mail_server_greeting_ends_at_the_deadline(
    site: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(email, "SEND_TIMEOUT", 0.5)
    with run_dripping_server() as port:
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
        started = time.monotonic()
        delivery = deliver_alert("email", addresses=["ops@example.com", "chief@example.com"])
        assert time.monotonic() - started < 4
    error = "mail server error: no response within 0.5 s for ops@example.com and 1 more"
    assert (delivery.status, delivery.error) == ("waiting", error)


@pytest.mark.slow
def test_dripping_apprise_service_ends_at_the_deadline(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apprise_, "SEND_TIMEOUT", 0.5)
    earlier_threads = threading.enumerate()
    with run_dripping_server(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n") as port:
        started = time.monotonic()
        delivery = deliver_alert("apprise", url=f"ntfy://127.0.0.1:{port}/one/two/three")
        assert time.monotonic() - started < 4
    assert (delivery.status, delivery.error) == ("waiting", "no response of ntfy within 0.5 s")
    new_threads = [thread.name for thread in threading.enumerate() if thread not in earlier_threads]
    assert [name for name in new_threads if "ThreadPool" in name] == []


@pytest.mark.parametrize("kind", ["email", "action"])
def test_rejected_recipient_does_not_stop_the_others_and_is_retried_alone(mailbox: Mailbox, kind: str) -> None:
    addresses = ["a@example.com", "b@example.com", "c@example.com"]
    for address in addresses:
        get_user_model().objects.create_superuser(address[0], address)
    mailbox.reject = ("RCPT TO:<a@", "450 later")
    fields: dict[str, Any] = {"addresses": addresses} if kind == "email" else {"action": "send_notification"}
    delivery = deliver_alert(kind, **fields)
    assert (delivery.status, delivery.error) == ("waiting", "SMTP 450 for a@example.com")
    assert (mailbox.recipients, delivery.accepted_by) == (addresses[1:], addresses[1:])
    shown = "To: a@example.com, b@example.com, c@example.com" if kind == "email" else "To: b@example.com\r\n"
    assert shown in mailbox.mails[0]
    mailbox.reject = None
    assert Sender().step(timezone.now() + timedelta(minutes=1)) == 1
    assert mailbox.recipients == [*addresses[1:], addresses[0]]
    delivery.refresh_from_db()
    assert (delivery.status, delivery.error) == ("sent", "")


def test_delivery_that_some_recipients_never_accept_is_sent_with_the_error(mailbox: Mailbox) -> None:
    mailbox.reject = ("RCPT TO:<a@", "550 nobody here")
    delivery = deliver_alert("email", addresses=["a@example.com", "b@example.com"])
    assert (delivery.status, delivery.error) == ("sent", "SMTP 550 for a@example.com")
    assert delivery.answer == "a@example.com: nobody here"
    assert mailbox.recipients == ["b@example.com"]
    assert AlertEvent.objects.get(kind="notified").details["error"] == "SMTP 550 for a@example.com"


def test_dropped_mail_session_does_not_stop_the_other_recipients(mailbox: Mailbox) -> None:
    mailbox.reject = ("RCPT TO:<a@", "421 closing")
    delivery = deliver_alert("email", addresses=["a@example.com", "b@example.com"])
    assert (delivery.status, mailbox.recipients) == ("waiting", ["b@example.com"])


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


def test_send_notification_mails_each_operator_the_alerts_of_visible_devices_only(mailbox: Mailbox) -> None:
    users = get_user_model().objects
    users.create_superuser("chief", "chief@example.com")
    here = users.create_user("here", "here@example.com")
    here.groups.add(Group.objects.get_or_create(name=OPERATORS)[0])
    devices = [create_device("boiler", "site a"), create_device("pump", "site b"), create_device("valve", "site b")]
    DeviceGroup.objects.get(name="site a").members.add(here)
    alerts = create_alerts(create_notifying_rule(level="critical"), *devices)
    fields = [messages.build_alert_fields(alert) for alert in alerts[::-1]]
    fields[-1]["level"] = "warning"
    title = "[CRITICAL] 3 devices: too hot"
    payload = messages.build_payload("dlv_1", "alert.triggered", title, fields, timezone.now())
    assert builtin_actions.send_notification(payload) == "2 e-mails sent"
    texts = dict(zip(mailbox.recipients, mailbox.mails, strict=True))
    assert "3 devices" in texts["chief@example.com"] and "pump" in texts["chief@example.com"]
    assert "[WARNING] too hot at boiler" in texts["here@example.com"]
    assert not any(word in texts["here@example.com"] for word in ("pump", "valve", "3 devices", "CRITICAL"))


@pytest.mark.slow
def test_apprise_message_has_the_title(receiver: WebhookReceiver) -> None:
    delivery = deliver_alert("apprise", url=f"ntfy://127.0.0.1:{receiver.port}/alerts")
    assert (delivery.status, delivery.error) == ("sent", "")
    assert receiver.requests[0].json["title"] == "[CRITICAL] too hot at device_0000"


@pytest.mark.slow
def test_apprise_redirect_is_not_followed_and_retried(receiver: WebhookReceiver) -> None:
    receiver.reply = lambda request: (302, {"Location": "http://127.0.0.1:1/"}, b"")
    delivery = deliver_alert("apprise", url=f"ntfy://127.0.0.1:{receiver.port}/alerts?redirect=yes&optional=yes")
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
    assert any(reason in error[1] for reason in ("is not a public address", "metadata service", "accepted"))
    with pytest.raises(SendFailed) as raised:
        apprise_.AppriseChannel().send(channel, apprise_message())
    assert not raised.value.retry


APPRISE_URLS = {
    "discord": "discord://123456789012345678/abcdefghijklmnopqrstuvwxyz",
    "slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/general",
    "tgram": "tgram://123456789:abcdefg_hijklmnop/12315544",
    "pover": "pover://abcdefghijklmnopqrstuvwxyz1234@abcdefghijklmnopqrstuvwxyz1234",
    "pagerduty": "pagerduty://abcdefghijklmnopqrstuvwxyz123456@abcdefghijklmnopqrst",
    "opsgenie": "opsgenie://abcdefgh-0000-0000-0000-000000000000",
    "victorops": "victorops://route@abcdefgh-0000-0000-0000-000000000000/entity",
    "ntfy": "ntfy://93.184.216.34/alerts",
    "ntfys": "ntfys://93.184.216.34/alerts",
    "gotify": "gotify://93.184.216.34/abcdefghijklmno",
    "gotifys": "gotifys://93.184.216.34/abcdefghijklmno",
    "rocket": "rocket://user:word@93.184.216.34/%23general",
    "rockets": "rockets://user:word@93.184.216.34/%23general",
    "mmost": "mmost://93.184.216.34/abcdefghijklmnopqrstuvwx",
    "mmosts": "mmosts://93.184.216.34/abcdefghijklmnopqrstuvwx",
    "workflows": "workflows://93.184.216.34:443/643a03f1a4b04b6a8e2c1f7a0c3a2b10/abcdefghijklmnopqrstuvwxyz0123456789",
}


def apprise_error(url: str) -> str:
    """Return why a URL is rejected; an empty text if it is accepted."""
    errors = apprise_.AppriseChannel().check(Channel(kind="apprise", url=url))
    return errors[0][1] if errors else ""


@pytest.mark.parametrize("scheme", apprise_.SCHEMES)
def test_apprise_parameters_that_read_files_or_urls_are_rejected_with_the_accepted_names(
    scheme: str, tmp_path: Path
) -> None:
    template = tmp_path / "secret.json"
    template.write_text('{"text": "secret"}')
    url = APPRISE_URLS[scheme]
    assert apprise_error(url) == ""
    for parameter in ("template", "attach", "include", "config", "filename", "icon_url", "actions", "body", ":name"):
        for value in (f"file://{template}", str(template), "http://127.0.0.1:1/", "/etc/passwd"):
            error = apprise_error(f"{url}?{parameter.upper()}={value}")
            if parameter == ":name" and scheme in ("opsgenie", "victorops"):
                assert "passwd" not in error
            else:
                assert error.startswith(f"parameter '{parameter}' is not accepted; {scheme} takes "), error


@pytest.mark.parametrize("scheme", apprise_.SCHEMES)
def test_no_accepted_apprise_parameter_reads_a_file_or_url(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new version of Apprise may give an accepted parameter another meaning."""
    from apprise import AppriseAttachment

    attached: list[object] = []
    monkeypatch.setattr(AppriseAttachment, "add", lambda self, *names, **more: attached.append(names))
    service = scheme if scheme in apprise_.PARAMETERS else scheme.removesuffix("s")
    for parameter in apprise_.COMMON_PARAMETERS.union(apprise_.PARAMETERS[service].split()):
        apprise_error(f"{APPRISE_URLS[scheme]}?{parameter}=file:///etc/passwd")
    assert attached == []


def test_apprise_url_as_apprise_writes_it_is_accepted() -> None:
    written = apprise_.create_plugin("ntfy://93.184.216.34/alerts?priority=high&verify=no")
    assert written.verify_certificate is True
    assert apprise_error(written.url()) == ""


@pytest.mark.parametrize("scheme", ["ntfy", "ntfys", "gotify", "gotifys"])
def test_apprise_host_that_changes_to_a_private_address_is_not_connected(
    receiver: WebhookReceiver, settings: Any, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ALLOW_PRIVATE_WEBHOOKS = []
    answers = iter(["93.184.216.34"])
    getaddrinfo = socket.getaddrinfo

    def rebind(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host != "rebind.example":
            return getaddrinfo(host, port, *args, **more)
        return [(2, 1, 6, "", (next(answers, "127.0.0.1"), port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    url = f"{scheme}://rebind.example:{receiver.port}/abcdefghijklmno"
    with pytest.raises(SendFailed, match=r"rebind\.example \(127\.0\.0\.1\) is not a public address") as raised:
        apprise_.AppriseChannel().send(Channel(kind="apprise", url=url), apprise_message())
    assert not raised.value.retry
    assert receiver.requests == []


def test_apprise_host_name_is_kept_in_the_request(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    getaddrinfo = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **more: getaddrinfo("127.0.0.1" if host == "chat.example" else host, *args, **more),
    )
    channel = Channel(kind="apprise", url=f"ntfy://chat.example:{receiver.port}/alerts")
    apprise_.AppriseChannel().send(channel, apprise_message())
    assert receiver.requests[0].headers["Host"] == f"chat.example:{receiver.port}"


def apprise_message() -> ChannelMessage:
    alert = messages.build_test_alert_fields(Channel(name="chat"), timezone.now())
    return ChannelMessage("dlv_1", "title", messages.build_payload("dlv_1", "test", "title", [alert], timezone.now()))


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
