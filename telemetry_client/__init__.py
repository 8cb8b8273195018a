"""Client of a telemetry site: the library of the alerting document, a REST client and the `telemetry` command.

    from telemetry_client import AlertRule, TelemetryConfig, TelemetryProcessor

Names are imported when they are first used, so that the command line starts quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from telemetry_client.config import TelemetryConfig as TelemetryConfig
    from telemetry_client.errors import ClientError as ClientError
    from telemetry_client.patterns import FailurePattern as FailurePattern
    from telemetry_client.processor import TelemetryProcessor as TelemetryProcessor
    from telemetry_client.rules import AlertRule as AlertRule
    from telemetry_client.server import RealtimeTelemetryServer as RealtimeTelemetryServer
    from telemetry_client.site import Site as Site
    from telemetry_client.streams import LiveStream as LiveStream

VERSION = "1.0.0"  # that of the site, see pyproject.toml

_MODULES = {
    "AlertRule": "rules",
    "ClientError": "errors",
    "FailurePattern": "patterns",
    "LiveStream": "streams",
    "RealtimeTelemetryServer": "server",
    "Site": "site",
    "TelemetryConfig": "config",
    "TelemetryProcessor": "processor",
}
__all__ = ["VERSION", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
