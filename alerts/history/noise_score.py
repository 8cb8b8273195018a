"""Noise score of a rule, 0 to 100, from its alerts without action, resolved automatically, and flapping.

For a noisy rule also suggested thresholds, from percentiles of its values, each with the number of its alerts.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import Count, F

from alerts.conditions.spec import ConditionSpec, RuleSpec
from alerts.history.backtest import backtest
from alerts.history.replay import plan_replay, replay
from alerts.models import Alert, Mode, NoiseScore, Rule
from alerts.rules.lifecycle import spec_of
from alerts.rules.scope import RuleScope
from metrics.error_responses import EXPECTED_ERRORS
from rest.caller import Caller

SCORE_DAYS = 30
MIN_ALERTS = 5  # for a score
NOISY_SCORE = 40  # from which on thresholds are suggested
FLAPPING_SECONDS = 600  # from the end of an alert to the next of the same series
SUGGESTION_PERIOD = timedelta(days=7)  # of values that a suggestion is computed from
SUGGESTION_DEVICES = 20  # the devices with the most alerts
RULE_BATCH = 100
RUN_TIME = 60.0  # seconds; the next run continues with the rules that were scored longest ago
WEIGHTS = {"ignored": 60, "self_resolved": 25, "flapping": 15}

_COUNT_ALERTS = """
WITH found AS (
    SELECT a.rule_id, a.triggered_at, coalesce(a.resolved_at, now()) AS until,
        a.resolution IN ('recovered', 'timeout') AS by_itself,
        a.acknowledged_at IS NOT NULL OR a.resolution = 'person' OR EXISTS (
            SELECT FROM alerts_alertevent e WHERE e.alert_id = a.id AND e.kind IN ('commented', 'assigned')) AS acted,
        lag(a.resolved_at) OVER (PARTITION BY a.rule_id, a.device_id, a.metric_name ORDER BY a.triggered_at) AS before
    FROM alerts_alert a
    WHERE a.rule_id = ANY(%(rules)s) AND a.triggered_at >= %(since)s AND NOT a.shadow AND NOT a.retroactive
)
SELECT rule_id, count(*), count(*) FILTER (WHERE acted), count(*) FILTER (WHERE by_itself AND NOT acted),
    count(*) FILTER (WHERE triggered_at < before + make_interval(secs => %(within)s)),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM until - triggered_at))::float8
FROM found GROUP BY rule_id
"""


@dataclass(frozen=True, slots=True)
class NoiseCounts:
    """Alerts of a rule in some days.

    acted_on       acknowledged, resolved by a person, assigned or commented
    self_resolved  of the others, those that recovered or timed out
    flapping       triggered within FLAPPING_SECONDS after the alert before, of the same device and metric
    """

    alerts: int = 0
    acted_on: int = 0
    self_resolved: int = 0
    flapping: int = 0
    median_seconds: float = 0.0
    days: float = SCORE_DAYS

    @property
    def per_day(self) -> float:
        return round(self.alerts / self.days, 2)

    @property
    def score(self) -> int | None:
        """The noise score; None for fewer than MIN_ALERTS alerts."""
        if self.alerts < MIN_ALERTS:
            return None
        parts = {"ignored": self.alerts - self.acted_on, "self_resolved": self.self_resolved, "flapping": self.flapping}
        return round(sum(WEIGHTS[name] * count / self.alerts for name, count in parts.items()))

    @property
    def explanation(self) -> str:
        count = f"{self.alerts} alert{'s' * (self.alerts != 1)} in {self.days:.0f} days"
        if self.score is None:
            return f"{count}: at least {MIN_ALERTS} are needed for a score."
        return (
            f"{count}, {self.per_day:g} per day. Acted on: {_with_percent(self.acted_on, self.alerts)}; "
            f"resolved by themselves: {_with_percent(self.self_resolved, self.alerts)}; "
            f"repeated within {FLAPPING_SECONDS // 60} minutes: {_with_percent(self.flapping, self.alerts)}; "
            f"median duration: {_format_duration(self.median_seconds)}."
        )


def score_rules(run_time: float = RUN_TIME, clock: Callable[[], float] = time.monotonic) -> int:
    """Score live rules, oldest score first, until the run time has passed. Returns the number of scored rules."""
    deadline, done = clock() + run_time, 0
    for batch in _unscored_batches(datetime.now(UTC)):
        counts = count_alerts(batch)
        for rule in batch:
            if clock() > deadline:
                return done
            NoiseScore.objects.update_or_create(
                rule=rule, defaults={"at": datetime.now(UTC), "figures": _to_document(rule, counts[rule.pk])}
            )
            done += 1
    return done


def _unscored_batches(since: datetime) -> Iterator[list[Rule]]:
    """Yield the live rules that were not scored since a time, in batches."""
    rules = Rule.objects.filter(mode=Mode.LIVE).exclude(noise__at__gte=since)
    while batch := list(rules.order_by(F("noise__at").asc(nulls_first=True), "pk")[:RULE_BATCH]):
        yield batch


def count_alerts(rules: Sequence[Rule]) -> dict[int, NoiseCounts]:
    """Return the counts of each rule by primary key."""
    now = datetime.now(UTC)
    parameters: dict[str, Any] = {
        "rules": [rule.pk for rule in rules],
        "since": now - timedelta(days=SCORE_DAYS),
        "within": FLAPPING_SECONDS,
    }
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_ALERTS, parameters)
        counts = {row[0]: NoiseCounts(*row[1:]) for row in cursor.fetchall()}
    ages = {rule.pk: (now - rule.created_at) / timedelta(days=1) for rule in rules}
    return {pk: replace(counts.get(pk, NoiseCounts()), days=min(max(age, 1.0), SCORE_DAYS)) for pk, age in ages.items()}


def _to_document(rule: Rule, counts: NoiseCounts) -> dict[str, Any]:
    """Return what is stored of a score."""
    is_noisy = counts.score is not None and counts.score >= NOISY_SCORE
    return asdict(counts) | {
        "score": counts.score,
        "per_day": counts.per_day,
        "explanation": counts.explanation,
        "suggestions": _suggestions(rule) if is_noisy else [],
    }


def _suggestions(rule: Rule) -> list[dict[str, Any]]:
    """Return thresholds near the extremes of the rule's recent values; none if they cannot be computed."""
    try:
        spec = spec_of(rule)
        return _suggest_thresholds(spec, _devices_with_most_alerts(rule)) if _has_threshold(spec) else []
    except EXPECTED_ERRORS:
        return []


def _has_threshold(spec: RuleSpec) -> bool:
    if len(spec.conditions) != 1:
        return False
    threshold = spec.conditions[0].threshold
    return isinstance(threshold, float) and spec.conditions[0].op not in ("==", "!=")


def _devices_with_most_alerts(rule: Rule) -> list[str]:
    since = datetime.now(UTC) - timedelta(days=SCORE_DAYS)
    alerts = Alert.objects.filter(rule=rule, triggered_at__gte=since, device__isnull=False)
    counts = alerts.values("device_name").annotate(count=Count("pk")).order_by("-count", "device_name")
    return [row["device_name"] for row in counts[:SUGGESTION_DEVICES]]


def _suggest_thresholds(spec: RuleSpec, device_ids: list[str]) -> list[dict[str, Any]]:
    """Return the thresholds at the 95th and 99th percentile (5th and 1st if low values are bad), with a backtest."""
    if not device_ids:
        return []
    [condition] = spec.conditions
    scope, end = RuleScope(Caller.internal("noise"), device_ids), datetime.now(UTC)
    start = end - SUGGESTION_PERIOD
    parts = [replayed.signal.values for replayed in replay(plan_replay(spec, scope, start, end))]
    values = np.concatenate(parts) if parts else np.empty(0)
    values = values[~np.isnan(values)]
    if not len(values):
        return []
    alerts_now = backtest(spec, scope, start, end).count
    suggestions = []
    for percent in (5, 1) if condition.is_low else (95, 99):
        threshold = float(f"{np.percentile(values, percent):.4g}")
        changed = replace(spec, conditions=(_with_threshold(condition, threshold),))
        suggestions.append(
            {
                "percentile": f"p{percent}",
                "threshold_value": threshold,
                "alerts": backtest(changed, scope, start, end).count,
                "alerts_now": alerts_now,
                "days": SUGGESTION_PERIOD.days,
                "devices": len(device_ids),
            }
        )
    return suggestions


def _with_threshold(condition: ConditionSpec, threshold: float) -> ConditionSpec:
    """Return the condition with another threshold, and the recovery threshold at the same distance from it."""
    assert isinstance(condition.threshold, float)
    recovery_threshold = condition.recovery_threshold
    if recovery_threshold is not None:
        recovery_threshold += threshold - condition.threshold
    return replace(condition, threshold=threshold, recovery_threshold=recovery_threshold)


def _with_percent(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.0f} %)"


def _format_duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
