"""Messengers and paging services through Apprise: those of a list, and no other of its hundred.

Left out are those that go wherever their address says in more ways than one (json, xml, form), that write files or
start programs, and Matrix, whose servers say themselves where to go next.
"""

from typing import TYPE_CHECKING, Any, Final

from alerts.models import Channel
from alerts.notifications.channels import ssrf_guard
from alerts.notifications.channels.transport import MOST_KEPT, Message, NotSent, Sent

if TYPE_CHECKING:  # else where it is needed first: a process without such a channel saves 45 MB
    from apprise.logger import NotifyLogEntry
    from apprise.plugins.base import NotifyBase

TOTAL: Final = 15.0  # seconds
FIXED: Final = ("discord", "slack", "tgram", "pover", "pagerduty", "opsgenie", "victorops")
FREE: Final = (  # at a host that the address names, which is judged as that of a webhook
    "ntfy", "ntfys", "gotify", "gotifys", "rocket", "rockets", "mmost", "mmosts", "workflows",
)  # fmt: skip
SCHEMES: Final = (*FIXED, *FREE)
PLAIN: Final = ("ntfy", "gotify", "rocket", "mmost")
TYPES: Final = {
    "info": "info",
    "warning": "warning",
    "error": "failure",
    "critical": "failure",
    "emergency": "failure",
}


class AppriseChannel:
    """One message through one of Apprise's plugins."""

    def check(self, channel: Channel) -> list[tuple[str, str]]:
        try:
            plugin_of(channel.url)
        except (ValueError, ssrf_guard.Unreachable) as refused:
            return [("url", str(refused))]
        except ssrf_guard.Unresolved:
            return []
        return []

    def send(self, channel: Channel, message: Message) -> Sent:
        try:
            plugin = plugin_of(channel.url)
        except (ValueError, ssrf_guard.Unreachable) as refused:
            raise NotSent(str(refused), again=False) from None
        except ssrf_guard.Unresolved as error:
            raise NotSent(str(error)) from None
        from apprise import Apprise

        said: list[str] = []

        def hear(entry: "NotifyLogEntry", service: "NotifyBase | None") -> None:
            if entry.level in ("WARNING", "ERROR"):
                said.append(entry.message)

        sender = Apprise(asset=plugin.asset)
        sender.add(plugin)
        kind = "success" if message.payload["event"] == "alert.resolved" else TYPES[message.payload["level"]]
        done = sender.notify(message.text, message.title, kind, timeout=TOTAL, log_callback=hear)
        if not done:
            raise NotSent(f"{plugin.service_name} did not take it", answer="\n".join(said)[:MOST_KEPT])
        return Sent()


def plugin_of(url: str) -> "NotifyBase":
    """The plugin for an address, bound to what was checked. Raises ValueError, reach.Unreachable, reach.Unresolved.

    Plain HTTP goes to the checked address itself; TLS tells a host that took its name's place by the certificate.
    """
    from apprise.plugins import N_MGR

    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise ValueError(f"an address of Apprise is accepted that begins with {', '.join(SCHEMES)}, and ://")
    plugin: Any = N_MGR[scheme]
    read = plugin.parse_url(url)
    if not read:
        raise ValueError(f"Apprise cannot read it: {_shape(plugin, scheme)}")
    for name in ("redirect", "cto", "rto", "retry", "wait"):  # what is said here holds, whatever the address asks for
        read.pop(name, None)
    made = _made(plugin, scheme, read)
    if scheme not in FREE or read.get("mode") == "cloud":
        return made
    address = ssrf_guard.addresses_of(read["host"], read.get("port") or (80 if scheme in PLAIN else 443))[0]
    if scheme not in PLAIN:
        return made
    return _made(plugin, scheme, read | {"host": f"[{address}]" if address.version == 6 else str(address)})


def _made(plugin: Any, scheme: str, read: dict[str, Any]) -> "NotifyBase":
    from apprise import AppriseAsset
    from apprise.exception import AppriseException

    asset = AppriseAsset(http_redirects=False, async_mode=False, app_id="Telemetry", app_desc="Telemetry")
    try:
        return plugin(**read | {"verify": True, "asset": asset})
    except (AppriseException, TypeError) as error:
        raise ValueError(f"{error}; {_shape(plugin, scheme)}") from None


def _shape(plugin: Any, scheme: str) -> str:
    return f"{str(plugin.templates[0]).replace('{schema}', scheme)} is accepted"
