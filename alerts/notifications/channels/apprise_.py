"""Messengers and paging services through Apprise, restricted to the services listed here.

Excluded are services that connect to any address (json, xml, form), that write files or start programs, and Matrix,
whose servers redirect clients to other servers. Excluded are also the query parameters that read files or make a server
fetch a URL (template, attach, icons of self-hosted servers).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from alerts.models import Channel
from alerts.notifications.channels.apprise_network import guarded
from alerts.notifications.channels.transport import MAX_RESPONSE_LENGTH, ChannelMessage, SendFailed, SendReceipt
from rest.outgoing import ssrf_guard
from rest.outgoing.deadline import Deadline

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
COMMON_PARAMETERS = frozenset({"format", "overflow", "emojis", "image"})
PARAMETERS = {  # accepted query parameters of a scheme, in addition to the common ones
    "discord": "tts fields footer footer_logo avatar avatar_url botname href url thread ping flags",
    "slack": "to token mode blocks footer timestamp",
    "tgram": "to topic thread silent preview mdv content detect",
    "pover": "to priority sound url url_title expire interval key e2ee",
    "pagerduty": "apikey integrationkey group class severity action dedup source component region click",
    "opsgenie": "apikey to priority batch tags region entity alias action",
    "victorops": "apikey entity_id routing_key route action",
    "ntfy": "to token auth mode priority tags xtags click delay email",
    "gotify": "priority",
    "rocket": "to mode avatar webhook",
    "mmost": "to channel channels team botname mode",
    "workflows": "wrap pa powerautomate route routeid workflow id signature sig ver api-version",
}
PARAMETER_PREFIXES = {"pagerduty": "+", "opsgenie": "+:", "victorops": ":"}  # of parameters with any name
# Parameters that Apprise writes into every URL. They have no effect: TLS is verified, redirects are not followed, and
# retries and the time limit are those of deliveries.
IGNORED_PARAMETERS = frozenset({"verify", "redirect", "cto", "rto", "retry", "wait", "store", "optional", "tz"})
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
        with Deadline(SEND_TIMEOUT) as deadline, guarded(deadline) as guard:
            sent = apprise.notify(message.text, message.title, notify_type, log_callback=collect)
        if guard.forbidden is not None:
            raise SendFailed(str(guard.forbidden), retry=False)
        if not sent:
            response = "\n".join(log_lines)[:MAX_RESPONSE_LENGTH]
            late = f"no response of {plugin.service_name} within {SEND_TIMEOUT:g} s"
            refused_by = f"{plugin.service_name} did not accept the message"
            raise SendFailed(late if deadline.expired else refused_by, response=response)
        return SendReceipt()


def create_plugin(url: str) -> "NotifyBase":
    """Create the plugin of an Apprise URL. Raises ValueError, AddressForbidden or NameNotResolved."""
    from apprise.plugins import N_MGR

    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise ValueError(f"must be an Apprise URL with one of the schemes {', '.join(SCHEMES)}")
    plugin: Any = N_MGR[scheme]
    options = plugin.parse_url(url)
    if not options:
        raise ValueError(f"not a valid Apprise URL: {_describe_url(plugin, scheme)}")
    _check_parameters(scheme, options["qsd"])
    for name in IGNORED_PARAMETERS:
        options.pop(name, None)
    created = _create_plugin(plugin, scheme, options)
    created.request_rate_per_sec = 0  # no pauses between recipients, which would outlast the time limit
    if scheme in SELF_HOSTED_SCHEMES and options.get("mode") != "cloud":
        port = options.get("port") or (80 if scheme in PLAIN_HTTP_SCHEMES else 443)
        ssrf_guard.resolve_allowed_addresses(options["host"], port, ssrf_guard.WEBHOOKS)
    return created


def _check_parameters(scheme: str, names: Iterable[str]) -> None:
    """Check the names of query parameters as Apprise has parsed them. Raises ValueError."""
    service = scheme if scheme in PARAMETERS else scheme.removesuffix("s")
    accepted = COMMON_PARAMETERS.union(PARAMETERS[service].split())
    prefixes = tuple(PARAMETER_PREFIXES.get(service, ""))
    for name in names:
        if name not in accepted and name not in IGNORED_PARAMETERS and not name.startswith(prefixes):
            raise ValueError(f"parameter {name!r} is not accepted; {scheme} takes {', '.join(sorted(accepted))}")


def _create_plugin(plugin: Any, scheme: str, options: dict[str, Any]) -> "NotifyBase":
    from apprise import AppriseAsset
    from apprise.exception import AppriseException

    # Without a time limit of Apprise, which would leave threads behind, the plugin runs in the calling thread.
    asset = AppriseAsset(
        http_redirects=False, async_mode=False, service_timeout=0, app_id="Telemetry", app_desc="Telemetry"
    )
    try:
        return plugin(**options | {"verify": True, "asset": asset})
    except (AppriseException, TypeError) as error:
        raise ValueError(f"{error}; {_describe_url(plugin, scheme)}") from None


def _describe_url(plugin: Any, scheme: str) -> str:
    return f"{str(plugin.templates[0]).replace('{schema}', scheme)} is accepted"
