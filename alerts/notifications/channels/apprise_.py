"""Messengers and paging services through Apprise, restricted to the services listed here.

Excluded are services that connect to any address (json, xml, form), that write files or start programs, and Matrix,
whose servers redirect clients to other servers.
"""

from typing import TYPE_CHECKING, Any

from alerts.models import Channel
from alerts.notifications.channels import ssrf_guard
from alerts.notifications.channels.transport import MAX_RESPONSE_LENGTH, ChannelMessage, SendFailed, SendReceipt

if TYPE_CHECKING:  # imported on first use otherwise: saves 45 MB in processes without such a channel
    from apprise.logger import NotifyLogEntry
    from apprise.plugins.base import NotifyBase

SEND_TIMEOUT = 15.0  # seconds
HOSTED_SCHEMES = ("discord", "slack", "tgram", "pover", "pagerduty", "opsgenie", "victorops")
SELF_HOSTED_SCHEMES = (  # the URL names the host, which the SSRF guard checks
    "ntfy", "ntfys", "gotify", "gotifys", "rocket", "rockets", "mmost", "mmosts", "workflows",
)  # fmt: skip
SCHEMES = (*HOSTED_SCHEMES, *SELF_HOSTED_SCHEMES)
PLAIN_HTTP_SCHEMES = ("ntfy", "gotify", "rocket", "mmost")
NOTIFY_TYPES = {
    "info": "info",
    "warning": "warning",
    "error": "failure",
    "critical": "failure",
    "emergency": "failure",
}


class AppriseChannel:
    """Transport that sends a message through an Apprise plugin."""

    def check(self, channel: Channel) -> list[tuple[str, str]]:
        try:
            create_plugin(channel.url)
        except (ValueError, ssrf_guard.AddressForbidden) as refused:
            return [("url", str(refused))]
        except ssrf_guard.NameNotResolved:
            return []
        return []

    def send(self, channel: Channel, message: ChannelMessage) -> SendReceipt:
        try:
            plugin = create_plugin(channel.url)
        except (ValueError, ssrf_guard.AddressForbidden) as refused:
            raise SendFailed(str(refused), retry=False) from None
        except ssrf_guard.NameNotResolved as error:
            raise SendFailed(str(error)) from None
        from apprise import Apprise

        log_lines: list[str] = []

        def collect(entry: "NotifyLogEntry", service: "NotifyBase | None") -> None:
            if entry.level in ("WARNING", "ERROR"):
                log_lines.append(entry.message)

        apprise = Apprise(asset=plugin.asset)
        apprise.add(plugin)
        is_resolved = message.payload["event"] == "alert.resolved"
        notify_type = "success" if is_resolved else NOTIFY_TYPES[message.payload["level"]]
        sent = apprise.notify(message.text, message.title, notify_type, timeout=SEND_TIMEOUT, log_callback=collect)
        if not sent:
            response = "\n".join(log_lines)[:MAX_RESPONSE_LENGTH]
            raise SendFailed(f"{plugin.service_name} did not accept the message", response=response)
        return SendReceipt()


def create_plugin(url: str) -> "NotifyBase":
    """Create the plugin of an Apprise URL, bound to a checked address.

    Plain HTTP connects to the checked address; with TLS the certificate proves that the host is the named one. Raises
    ValueError, AddressForbidden or NameNotResolved.
    """
    from apprise.plugins import N_MGR

    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise ValueError(f"must be an Apprise URL with one of the schemes {', '.join(SCHEMES)}")
    plugin: Any = N_MGR[scheme]
    options = plugin.parse_url(url)
    if not options:
        raise ValueError(f"not a valid Apprise URL: {_describe_url(plugin, scheme)}")
    for name in ("redirect", "cto", "rto", "retry", "wait"):  # options that a URL must not set
        options.pop(name, None)
    created = _create_plugin(plugin, scheme, options)
    if scheme not in SELF_HOSTED_SCHEMES or options.get("mode") == "cloud":
        return created
    port = options.get("port") or (80 if scheme in PLAIN_HTTP_SCHEMES else 443)
    address = ssrf_guard.resolve_allowed_addresses(options["host"], port)[0]
    if scheme not in PLAIN_HTTP_SCHEMES:
        return created
    return _create_plugin(plugin, scheme, options | {"host": f"[{address}]" if address.version == 6 else str(address)})


def _create_plugin(plugin: Any, scheme: str, options: dict[str, Any]) -> "NotifyBase":
    from apprise import AppriseAsset
    from apprise.exception import AppriseException

    asset = AppriseAsset(http_redirects=False, async_mode=False, app_id="Telemetry", app_desc="Telemetry")
    try:
        return plugin(**options | {"verify": True, "asset": asset})
    except (AppriseException, TypeError) as error:
        raise ValueError(f"{error}; {_describe_url(plugin, scheme)}") from None


def _describe_url(plugin: Any, scheme: str) -> str:
    return f"{str(plugin.templates[0]).replace('{schema}', scheme)} is accepted"
