"""What is told by the clock, once a second: who is not heard of, which alerts are closed by time, what people did."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection as database
from django.db import transaction

from alerts import alert_actions
from alerts.conditions.alert_lifecycle import NEVER
from alerts.evaluation.absence import Absence
from alerts.evaluation.rule_series_state import Key, Outcome, Subject, Watched
from alerts.evaluation.watched_series import Watch
from alerts.evaluation.write_alerts import write_silent
from alerts.models import Alert, Resolution
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.units import to_datetime

PERIOD = 1.0  # seconds

_TIMED_OUT = """
SELECT a.id FROM alerts_alert a JOIN alerts_rule r ON r.id = a.rule_id
WHERE a.status IN ('active', 'acknowledged') AND r.auto_resolve AND r.kind <> 'absence'
  AND r.auto_resolve_timeout IS NOT NULL
  AND greatest(a.last_breach_at, a.triggered_at) < %s - make_interval(secs => r.auto_resolve_timeout) LIMIT 5000
"""
_WITHOUT_RULE = """
SELECT a.id FROM alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id
WHERE a.status IN ('active', 'acknowledged')
  AND (r.id IS NULL OR NOT r.enabled OR r.metric_name <> a.metric_name) LIMIT 5000
"""
_BREACHED = """
UPDATE alerts_alert a SET last_breach_at = n.at, worst_value = coalesce(to_jsonb(n.worst), a.worst_value)
FROM unnest(%s::bigint[], %s::timestamptz[], %s::float8[]) n(id, at, worst)
WHERE a.id = n.id AND a.status IN ('active', 'acknowledged') AND a.last_breach_at < n.at
"""


class Sweep:
    """Of one evaluator. `check_alone` raises where that is not the only one any more."""

    def __init__(self, check_alone: Callable[[], None]) -> None:
        self._check_alone = check_alone
        self.absence = Absence()
        self._next = 0.0
        self._breached: dict[Subject, None] = {}
        self._told = False

    def has_told(self) -> bool:
        """Whether it found anything since this was last asked."""
        told, self._told = self._told, False
        return told

    def due(self) -> None:
        """The next step is not to wait."""
        self._next = 0.0

    def watch(self, rules: Sequence[Watched]) -> None:
        self.absence.watch(rules)

    def hear(self, columns: Columns) -> None:
        self.absence.hear(columns)

    def met(self, outcomes: Sequence[Outcome]) -> None:
        """Remember when the conditions of open alerts were last met, and how badly."""
        for subject, signal, _, _ in outcomes:
            if subject.alert is None or signal is None or not signal.breach.any():
                continue
            breach = signal.breach
            subject.breached = max(subject.breached, int(signal.times[breach][-1]))
            subject.worst = subject.worse(signal.values[breach])
            self._breached[subject] = None

    def step(self, connection: Connection, watch: Watch, now: int) -> None:
        """At a time (µs), with everything judged that was stored until then."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PERIOD
        with transaction.atomic():
            self._check_alone()
            self._note_breaches()
            self._close(_TIMED_OUT, (to_datetime(now),), Resolution.TIMEOUT)
            self._close(_WITHOUT_RULE, (), Resolution.RULE)
            gone = Alert.objects.open().filter(device__isnull=True)[:5000]
            self._resolve([alert.pk for alert in gone], Resolution.DEVICE)
        self._forget_closed(watch)
        self._absent(connection, now)

    def _note_breaches(self) -> None:
        some = [one for one in self._breached if one.alert is not None and one.breached != NEVER]
        self._breached = {}
        if some:
            with database.cursor() as cursor:
                columns = [(one.alert, to_datetime(one.breached), one.worst) for one in some]
                cursor.execute(_BREACHED, list(map(list, zip(*columns, strict=True))))

    def _close(self, query: str, parameters: tuple[Any, ...], resolution: Resolution) -> None:
        with database.cursor() as cursor:
            cursor.execute(query, parameters)
            self._resolve([number for (number,) in cursor.fetchall()], resolution)

    def _resolve(self, alerts: list[int], resolution: Resolution) -> None:
        if alerts:
            alert_actions.resolve(Alert.objects.filter(pk__in=alerts), resolution, alert_actions.EVALUATOR)
            self._told = True

    def _forget_closed(self, watch: Watch) -> None:
        """Alerts that somebody has resolved are open no more; what was measured until then counts no more."""
        held = {one.alert: one for one in watch.subjects.values() if one.alert is not None}
        if not held:
            return
        closed = set(held) - set(Alert.objects.open().filter(pk__in=list(held)).values_list("pk", flat=True))
        for number in closed:
            watch.close(held[number])

    def _absent(self, connection: Connection, now: int) -> None:
        if not self.absence.rules:
            return
        rules = [one.rule.pk for one in self.absence.rules]
        fields = ("rule_id", "device_id", "metric_name", "pk")
        is_open: dict[Key, int] = {
            (rule, device, metric): pk
            for rule, device, metric, pk in Alert.objects.open()
            .filter(rule__in=rules, device__isnull=False)
            .values_list(*fields)
            .iterator()
        }
        absent, back = self.absence.look(connection, now, is_open)
        if absent or back:
            self._told = True
            with transaction.atomic():
                self._check_alone()
                write_silent(absent)
                self.absence.told(absent)
                times = {is_open[key]: to_datetime(heard) for key, heard in back}
                if times:
                    alert_actions.resolve(
                        Alert.objects.filter(pk__in=times), Resolution.RECOVERED, alert_actions.EVALUATOR, at=times
                    )
