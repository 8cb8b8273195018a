"""What statistics and health checks have to know of alerts: this app imports nothing of theirs, so they plug in here.

The alerts app calls `provide` once, when it is ready.
"""

from typing import Protocol

from rest.caller import Caller


class AlertSummary(Protocol):
    """What the alerts app answers."""

    def count_last_day(self, caller: Caller, device_id: str | None) -> int:
        """How many alerts of devices that this caller sees were triggered in the last 24 hours; of one device."""

    def health(self) -> tuple[str, str]:
        """(healthy, degraded or unhealthy; why) of the evaluation of rules, in a few milliseconds."""


class NoAlerting:
    """No app evaluates rules."""

    def count_last_day(self, caller: Caller, device_id: str | None) -> int:
        return 0

    def health(self) -> tuple[str, str]:
        return "healthy", "no alert rules"


_alert_summary: AlertSummary = NoAlerting()


def register_alert_summary(alerting: AlertSummary) -> None:
    """Be asked about alerts from now on."""
    global _alert_summary
    _alert_summary = alerting


def registered_summary() -> AlertSummary:
    """Whoever is to be asked about alerts."""
    return _alert_summary
