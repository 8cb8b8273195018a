"""How rules stood with their series, out of the table of alerts: after a restart, and for whatever is watched anew."""

from collections.abc import Sequence
from typing import NamedTuple

from alerts.evaluation.rule_series_state import Key, Subject
from alerts.models import Alert, Rule
from metrics.storage.connection import read_connection
from metrics.storage.units import to_microseconds

_LAST = """
SELECT DISTINCT ON (rule_id, device_id, metric_name) rule_id, device_id, metric_name, triggered_at, resolved_at
FROM alerts_alert WHERE rule_id = ANY(%s) AND device_id IS NOT NULL AND NOT retroactive
ORDER BY rule_id, device_id, metric_name, triggered_at DESC
"""


class Open(NamedTuple):
    """An open alert: its primary key, when it was triggered and when the condition was last met (µs), and how badly."""

    alert: int
    triggered: int
    breached: int
    worst: float | None


class Restored(NamedTuple):
    """What was open; and when the last alert was triggered and ended (µs), where that counts."""

    open: dict[Key, Open]
    last: dict[Key, tuple[int, int]]

    def apply(self, subject: Subject) -> None:
        """Let a subject stand as it did."""
        standing = subject.standing
        if (last := self.last.get(subject.key)) is not None:
            standing.triggered, standing.ended = last
        if (held := self.open.get(subject.key)) is not None:
            standing.is_open, standing.triggered = True, held.triggered
            subject.alert, subject.breached, subject.worst = held.alert, held.breached, held.worst


def restore(rules: Sequence[int]) -> Restored:
    """How these rules (primary keys) stand."""
    found: dict[Key, Open] = {}
    fields = ("rule_id", "device_id", "metric_name", "pk", "triggered_at", "last_breach_at", "worst_value")
    for rule, device, metric, pk, triggered, breached, worst in (
        Alert.objects.open().filter(rule__in=rules, device__isnull=False).values_list(*fields).iterator()
    ):
        found[rule, device, metric] = Open(pk, to_microseconds(triggered), to_microseconds(breached), worst)
    counting = Rule.objects.filter(pk__in=rules).exclude(cooldown_minutes=0, trigger_count=1)
    return Restored(found, last_alerts(list(counting.values_list("pk", flat=True))))


def last_alerts(rules: Sequence[int]) -> dict[Key, tuple[int, int]]:
    """When the last alert of each series of these rules was triggered, and when it ended, µs."""
    with read_connection() as connection:
        rows = connection.execute(_LAST, (list(rules),)).fetchall()
    return {
        (rule, device, metric): (to_microseconds(triggered), to_microseconds(ended or triggered))
        for rule, device, metric, triggered, ended in rows
    }
