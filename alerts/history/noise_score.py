"""How much of what a rule says is noise: alerts on which nobody acts, which are over by themselves, which come back.

A score from 0 to 100, where 100 is noise and nothing else, with what it was made of; and for a noisy rule the
thresholds that the values it judges suggest, each with how many alerts there would have been.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection
from django.db.models import Count, F

from alerts.conditions.spec import Comparison, Spec
from alerts.conditions.thresholds import Signal
from alerts.history.backtest import backtest
from alerts.history.replay import history, replay
from alerts.models import Alert, Mode, NoiseScore, Rule
from alerts.rules.lifecycle import spec_of
from alerts.rules.scope import Scope, Subject
from metrics.errors import EXPECTED_ERRORS
from rest.caller import Caller

DAYS: Final = 30
FEWEST: Final = 5  # alerts from which on there is a score: of fewer nothing can be told
NOISY: Final = 40  # score from which on another threshold is suggested
BACK_WITHIN: Final = 600  # seconds: an alert that soon after the one before was never over
LOOKED_AT: Final = timedelta(days=7)  # that a suggestion is made from
DEVICES: Final = 20  # with the most alerts, that it is made from
RULES_AT_ONCE: Final = 100
BUDGET: Final = 60.0  # seconds of one run; the next one goes on with those that were scored longest ago
WEIGHTS: Final = {"ignored": 60, "self_resolved": 25, "flapping": 15}

_FIGURES = """
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
class Noise:
    """What became of the alerts of a rule in so many days.

    acted_on       acknowledged, resolved by a person, assigned or commented
    self_resolved  of the others, those that were over by themselves
    flapping       those that came soon after the one before, of the same device and metric
    """

    alerts: int = 0
    acted_on: int = 0
    self_resolved: int = 0
    flapping: int = 0
    median_seconds: float = 0.0
    days: float = DAYS

    @property
    def per_day(self) -> float:
        return round(self.alerts / self.days, 2)

    @property
    def score(self) -> int | None:
        """None where there were too few to tell."""
        if self.alerts < FEWEST:
            return None
        parts = {"ignored": self.alerts - self.acted_on, "self_resolved": self.self_resolved, "flapping": self.flapping}
        return round(sum(WEIGHTS[name] * count / self.alerts for name, count in parts.items()))

    @property
    def explanation(self) -> str:
        told = f"{self.alerts} alert{'s' * (self.alerts != 1)} in {self.days:.0f} days"
        if self.score is None:
            return f"{told}: too few to tell."
        return (
            f"{told}, {self.per_day:g} a day. Somebody acted on {_share(self.acted_on, self.alerts)}; "
            f"{_share(self.self_resolved, self.alerts)} were over before anybody did; "
            f"{_share(self.flapping, self.alerts)} came back within {BACK_WITHIN // 60} minutes; "
            f"half of them lasted {_duration(self.median_seconds)} or less."
        )


def score_all(budget: float = BUDGET, clock: Callable[[], float] = time.monotonic) -> int:
    """Score live rules, those first that were scored longest ago, until all are or the time is over; how many were."""
    deadline, done = clock() + budget, 0
    for some in _waiting(datetime.now(UTC)):
        figures = noise_of(some)
        for rule in some:
            if clock() > deadline:
                return done
            NoiseScore.objects.update_or_create(
                rule=rule, defaults={"at": datetime.now(UTC), "figures": _document(rule, figures[rule.pk])}
            )
            done += 1
    return done


def _waiting(before: datetime) -> Iterator[list[Rule]]:
    """The live rules that were not scored since then, some at a time."""
    rules = Rule.objects.filter(mode=Mode.LIVE).exclude(noise__at__gte=before)
    while some := list(rules.order_by(F("noise__at").asc(nulls_first=True), "pk")[:RULES_AT_ONCE]):
        yield some


def noise_of(rules: Sequence[Rule]) -> dict[int, Noise]:
    """By primary key; counted in the database."""
    now = datetime.now(UTC)
    wanted: dict[str, Any] = {
        "rules": [rule.pk for rule in rules],
        "since": now - timedelta(days=DAYS),
        "within": BACK_WITHIN,
    }
    with connection.cursor() as cursor:
        cursor.execute(_FIGURES, wanted)
        found = {row[0]: Noise(*row[1:]) for row in cursor.fetchall()}
    ages = {rule.pk: (now - rule.created_at) / timedelta(days=1) for rule in rules}
    return {number: replace(found.get(number, Noise()), days=min(max(age, 1.0), DAYS)) for number, age in ages.items()}


def _document(rule: Rule, noise: Noise) -> dict[str, Any]:
    """What is kept of a score, and shown."""
    suggestions = _suggestions(rule) if noise.score is not None and noise.score >= NOISY else []
    told = {"score": noise.score, "per_day": noise.per_day, "explanation": noise.explanation}
    return asdict(noise) | told | {"suggestions": suggestions}


def _suggestions(rule: Rule) -> list[dict[str, Any]]:
    """Thresholds at the edge of what the rule has judged lately where it alerted most; none where that is unknown."""
    try:
        spec = spec_of(rule)
        return list(_suggested(spec, _loudest(rule))) if _has_threshold(spec) else []
    except EXPECTED_ERRORS:
        return []


def _has_threshold(spec: Spec) -> bool:
    if len(spec.conditions) != 1:
        return False
    threshold = spec.conditions[0].threshold
    return isinstance(threshold, float) and spec.conditions[0].op not in ("==", "!=")


def _loudest(rule: Rule) -> list[str]:
    """The devices with the most alerts of a rule."""
    since = datetime.now(UTC) - timedelta(days=DAYS)
    alerts = Alert.objects.filter(rule=rule, triggered_at__gte=since, device__isnull=False)
    counted = alerts.values("device_name").annotate(many=Count("pk")).order_by("-many", "device_name")
    return [one["device_name"] for one in counted[:DEVICES]]


def _suggested(spec: Spec, device_ids: list[str]) -> Iterator[dict[str, Any]]:
    [comparison] = spec.conditions
    scope, end = Scope(Caller.internal("noise"), device_ids), datetime.now(UTC)
    judged: list[np.ndarray[Any, np.dtype[np.float64]]] = []

    def see(subject: Subject, signal: Signal, points: int) -> None:
        judged.append(signal.values[~np.isnan(signal.values)])

    start = end - LOOKED_AT
    if device_ids:
        replay(history(spec, scope, start, end), see)
    if not sum(map(len, judged)):
        return
    now = backtest(spec, scope, start, end).count
    values = np.concatenate(judged)
    for percent in (95, 99):
        edge = float(np.percentile(values, 100 - percent if comparison.is_low else percent))
        threshold = float(f"{edge:.4g}")
        tried = backtest(replace(spec, conditions=(_moved(comparison, threshold),)), scope, start, end)
        yield {
            "percentile": f"p{100 - percent if comparison.is_low else percent}",
            "threshold_value": threshold,
            "alerts": tried.count,
            "alerts_now": now,
            "days": LOOKED_AT.days,
            "devices": len(device_ids),
        }


def _moved(comparison: Comparison, threshold: float) -> Comparison:
    """With another threshold, and the one to be well again as far from it as before."""
    assert isinstance(comparison.threshold, float)
    clear = None if comparison.clear is None else comparison.clear + threshold - comparison.threshold
    return replace(comparison, threshold=threshold, clear=clear)


def _share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.0f} %)"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
