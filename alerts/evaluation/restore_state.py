"""Restore open alerts and last alerts from the database: after a restart, and when a series is watched again."""

from collections.abc import Sequence
from typing import NamedTuple

from alerts.evaluation.rule_series_state import RuleSeriesKey, RuleSeriesState, numeric
from alerts.models import Alert, Rule
from metrics.storage.connection import read_connection
from metrics.storage.units import to_microseconds

_LAST_ALERTS = """
SELECT DISTINCT ON (rule_id, device_id, metric_name) rule_id, device_id, metric_name, triggered_at, resolved_at
FROM alerts_alert WHERE rule_id = ANY(%s) AND device_id IS NOT NULL AND NOT retroactive
ORDER BY rule_id, device_id, metric_name, triggered_at DESC
"""


class OpenAlert(NamedTuple):
    """Primary key of an open alert, times of its trigger and of its last breach (µs), and its worst value."""

    alert: int
    triggered: int
    last_breach: int
    worst: float | None


class RestoredAlerts(NamedTuple):
    """Open alerts; and trigger and end times (µs) of the last alert, of rules with a cooldown or a trigger count."""

    open: dict[RuleSeriesKey, OpenAlert]
    last: dict[RuleSeriesKey, tuple[int, int]]

    def apply(self, state: RuleSeriesState) -> None:
        """Set the alert and the lifecycle of a new state."""
        lifecycle = state.lifecycle
        if (last := self.last.get(state.key)) is not None:
            lifecycle.triggered, lifecycle.ended = last
        if (restored := self.open.get(state.key)) is not None:
            lifecycle.is_open, lifecycle.triggered = True, restored.triggered
            state.alert, state.last_breach, state.worst = restored.alert, restored.last_breach, restored.worst


def restore_alerts(rules: Sequence[int]) -> RestoredAlerts:
    """Read the alerts of these rules (primary keys)."""
    open_alerts: dict[RuleSeriesKey, OpenAlert] = {}
    fields = ("rule_id", "device_id", "metric_name", "pk", "triggered_at", "last_breach_at", "worst_value")
    for rule, device, metric, pk, triggered, breach, worst in (
        Alert.objects.open().filter(rule__in=rules, device__isnull=False).values_list(*fields).iterator()
    ):
        open_alerts[rule, device, metric] = OpenAlert(
            pk, to_microseconds(triggered), to_microseconds(breach), numeric(worst)
        )
    counting = Rule.objects.filter(pk__in=rules).exclude(cooldown_minutes=0, trigger_count=1)
    return RestoredAlerts(open_alerts, read_last_alerts(list(counting.values_list("pk", flat=True))))


def read_last_alerts(rules: Sequence[int]) -> dict[RuleSeriesKey, tuple[int, int]]:
    """Return when the last alert of each series of these rules was triggered and when it ended, µs."""
    with read_connection() as connection:
        rows = connection.execute(_LAST_ALERTS, (list(rules),)).fetchall()
    return {
        (rule, device, metric): (to_microseconds(triggered), to_microseconds(ended or triggered))
        for rule, device, metric, triggered, ended in rows
    }
