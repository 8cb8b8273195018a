"""Checks by the clock, once a second: no data, auto-resolve timeouts, and alerts whose rule or device is gone."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection as database
from django.db import transaction

from alerts import alert_actions
from alerts.conditions.alert_lifecycle import NEVER
from alerts.evaluation.absence import AbsenceChecks
from alerts.evaluation.rule_series_state import EvaluationResult, RuleSeriesKey, RuleSeriesState, WatchedRule
from alerts.evaluation.watched_series import WatchedSeries
from alerts.evaluation.write_alerts import write_absence_alerts
from alerts.events import record_alert_events
from alerts.models import Alert, Resolution
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.units import to_datetime

CHECK_INTERVAL = 1.0  # seconds
RESOLVE_BATCH = 5000  # alerts per check

_TIMED_OUT = f"""
SELECT a.id FROM alerts_alert a JOIN alerts_rule r ON r.id = a.rule_id
WHERE a.status IN ('active', 'acknowledged') AND r.auto_resolve AND r.kind <> 'absence'
  AND r.auto_resolve_timeout IS NOT NULL
  AND greatest(a.last_breach_at, a.triggered_at) < %s - make_interval(secs => r.auto_resolve_timeout)
LIMIT {RESOLVE_BATCH}
"""  # noqa: S608 - a constant
_WITHOUT_RULE = f"""
SELECT a.id FROM alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id
WHERE a.status IN ('active', 'acknowledged')
  AND (r.id IS NULL OR NOT r.enabled OR r.metric_name <> a.metric_name) LIMIT {RESOLVE_BATCH}
"""  # noqa: S608 - a constant
_UPDATE_BREACHES = """
UPDATE alerts_alert a SET last_breach_at = n.at, worst_value = coalesce(n.worst, a.worst_value)
FROM unnest(%s::bigint[], %s::timestamptz[], %s::jsonb[]) n(id, at, worst) JOIN alerts_alert was ON was.id = n.id
WHERE a.id = n.id AND a.status IN ('active', 'acknowledged') AND a.last_breach_at < n.at
RETURNING a.id, a.worst_value IS DISTINCT FROM was.worst_value
"""


class ClockChecks:
    """The clock checks of one evaluator. `check_replaced` raises if another evaluator has taken over."""

    def __init__(self, check_replaced: Callable[[], None]) -> None:
        self._check_replaced = check_replaced
        self.absence = AbsenceChecks()
        self.next_check = 0.0  # monotonic clock
        self._breached: dict[RuleSeriesState, None] = {}
        self._has_changes = False

    def take_changes(self) -> bool:
        """Whether an alert was opened or resolved since the last call."""
        changes, self._has_changes = self._has_changes, False
        return changes

    def watch(self, rules: Sequence[WatchedRule]) -> None:
        self.absence.watch(rules)

    def add_points(self, columns: Columns) -> None:
        self.absence.add_points(columns)

    def record_breaches(self, results: Sequence[EvaluationResult]) -> None:
        """Remember last breach and worst value of open alerts until the next step stores them."""
        for state, signal, _, _ in results:
            if state.alert is None or signal is None or not signal.breach.any():
                continue
            breach = signal.breach
            state.last_breach = max(state.last_breach, int(signal.times[breach][-1]))
            state.worst = state.worst_of(signal.values[breach])
            self._breached[state] = None

    def step(self, connection: Connection, watched: WatchedSeries, now: int) -> None:
        """Run the checks if they are due. All points that were stored before `now` (µs) have to be evaluated."""
        if time.monotonic() < self.next_check:
            return
        self.next_check = time.monotonic() + CHECK_INTERVAL
        with transaction.atomic():
            self._check_replaced()
            self._store_breaches()
            self._resolve_selected(_TIMED_OUT, (to_datetime(now),), Resolution.TIMEOUT)
            self._resolve_selected(_WITHOUT_RULE, (), Resolution.RULE)
            without_device = Alert.objects.open().filter(device__isnull=True)[:RESOLVE_BATCH]
            self._resolve([alert.pk for alert in without_device], Resolution.DEVICE)
        self._close_resolved(watched)
        self._check_absence(connection, now)

    def _store_breaches(self) -> None:
        states = [state for state in self._breached if state.alert is not None and state.last_breach != NEVER]
        self._breached = {}
        if states:
            rows = [
                (state.alert, to_datetime(state.last_breach), None if state.worst is None else json.dumps(state.worst))
                for state in states
            ]
            with database.cursor() as cursor:
                cursor.execute(_UPDATE_BREACHES, list(map(list, zip(*rows, strict=True))))
                worse = {pk: "" for pk, has_new_worst in cursor.fetchall() if has_new_worst}
            record_alert_events(worse, "worst_value", alert_actions.EVALUATOR)

    def _resolve_selected(self, query: str, parameters: tuple[Any, ...], resolution: Resolution) -> None:
        with database.cursor() as cursor:
            cursor.execute(query, parameters)
            self._resolve([pk for (pk,) in cursor.fetchall()], resolution)

    def _resolve(self, alerts: list[int], resolution: Resolution) -> None:
        if alerts:
            alert_actions.resolve(Alert.objects.filter(pk__in=alerts), resolution, alert_actions.EVALUATOR)
            self._has_changes = True

    def _close_resolved(self, watched: WatchedSeries) -> None:
        """Update the states whose alert was resolved by a user or another process."""
        states = {state.alert: state for state in watched.states.values() if state.alert is not None}
        if not states:
            return
        resolved = set(states) - set(Alert.objects.open().filter(pk__in=list(states)).values_list("pk", flat=True))
        for alert in resolved:
            watched.close_alert(states[alert])

    def _check_absence(self, connection: Connection, now: int) -> None:
        if not self.absence.rules:
            return
        open_alerts = self._read_open_absence_alerts()
        absent, recovered = self.absence.check(connection, now, open_alerts)
        if not absent and not recovered:
            return
        self._has_changes = True
        with transaction.atomic():
            self._check_replaced()
            write_absence_alerts(absent)
            self.absence.record_alerts(absent)
            times = {open_alerts[key]: to_datetime(last_seen) for key, last_seen in recovered}
            if times:
                alert_actions.resolve(
                    Alert.objects.filter(pk__in=times), Resolution.RECOVERED, alert_actions.EVALUATOR, at=times
                )

    def _read_open_absence_alerts(self) -> dict[RuleSeriesKey, int]:
        rules = [watched.rule.pk for watched in self.absence.rules]
        alerts = Alert.objects.open().filter(rule__in=rules, device__isnull=False)
        rows = alerts.values_list("rule_id", "device_id", "metric_name", "pk").iterator()
        return {(rule, device, metric): pk for rule, device, metric, pk in rows}
