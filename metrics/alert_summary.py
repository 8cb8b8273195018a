"""Registry of the alert summary that statistics and health checks show.

The alerts app registers it, since this app must not import the alerts app.
"""

from typing import Protocol

from rest.caller import Caller


class AlertSummary(Protocol):
    """Numbers of recent alerts and the health of rule evaluation, provided by the alerts app."""

    def count_last_day(self, caller: Caller, device_id: str | None) -> int:
        """Return how many alerts of the caller's devices, or of one device, were triggered in the last 24 hours."""

    def health(self) -> tuple[str, str]:
        """Return the health of rule evaluation (healthy, degraded or unhealthy) and its reason, within milliseconds."""


_alert_summary: AlertSummary | None = None


def register_alert_summary(summary: AlertSummary) -> None:
    """Register the alert summary; the alerts app calls this once when it is ready."""
    global _alert_summary
    _alert_summary = summary


def registered_summary() -> AlertSummary:
    """Return the registered alert summary. Raises RuntimeError if there is none."""
    if _alert_summary is None:
        raise RuntimeError("no alert summary is registered: the alerts app is not ready")
    return _alert_summary
