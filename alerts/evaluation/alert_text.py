"""What an alert says: one line of what is wrong, and what it was triggered by."""

from typing import Any

import numpy as np

from alerts.conditions.spec import ANY_METRIC, SECOND, Comparison, Spec
from alerts.conditions.thresholds import Signal
from alerts.evaluation.absence import Silent
from alerts.evaluation.anomaly_results import Detected
from alerts.evaluation.rule_series_state import Subject
from alerts.models import Rule
from metrics.storage.series_registry import current_registry
from metrics.storage.units import to_datetime

MOST_SHOWN = 50  # values of a window that are kept as evidence
_SIDES = {">": "over", ">=": "at or over", "<": "under", "<=": "at or under", "==": "equal to", "!=": "not equal to"}


def shown(value: float) -> str:
    """A number as people write it."""
    return f"{value:.6g}"


def threshold_of(spec: Spec, rule: Rule) -> Any:
    """What is compared with, as the API shows it."""
    return rule.threshold_value if spec.kind in ("threshold", "trend", "forecast") else None


def message(subject: Subject, signal: Signal, at: int) -> str:
    """What is wrong with a subject at a place of its signal."""
    spec, rule, value = subject.watched.spec, subject.watched.rule, float(signal.values[at])
    if spec.kind == "composite":
        joined = " and " if spec.every else " or "
        return f"{subject.device_id}: {joined.join(map(_condition, spec.conditions))}"
    comparison = spec.conditions[0]
    if isinstance(signal, Detected):
        measured, found = float(signal.measured[at]), signal.judgement
        expected = f"expected {found.low[at]:.4g} to {found.high[at]:.4g}"
        what = f"{rule.metric_name} of {subject.device_id} is {_with_unit(measured, comparison)}"
        return f"{what}, {expected}: {signal.reason(at)}"
    if isinstance(comparison.threshold, (str, bool)):
        limit = (
            f"“{comparison.threshold}”" if isinstance(comparison.threshold, str) else str(comparison.threshold).lower()
        )
        return f"{rule.metric_name} of {subject.device_id} is {'not ' if comparison.op == '!=' else ''}{limit}"
    return f"{_measured(comparison)} of {subject.device_id} is {_with_unit(value, comparison)}, {_limit(comparison)}"


def silence_message(one: Silent) -> str:
    """What is wrong with a device that is not heard of."""
    metric = one.watched.spec.metric
    what = "" if metric == ANY_METRIC else f" of {metric}"
    expected = f"expected every {_duration(one.expected)}"
    if not one.heard:
        return f"{one.device_id} has never sent any data{what}, {expected}"
    return f"{one.device_id}: no data{what} since {to_datetime(one.heard):%Y-%m-%d %H:%M:%S} UTC, {expected}"


def evidence(subject: Subject, signal: Signal, at: int) -> dict[str, Any]:
    """The values that an alert was triggered by, the newest last, and what they were held against."""
    spec = subject.watched.spec
    first = max(int(signal.times.searchsorted(signal.times[at] - spec.window)), at + 1 - MOST_SHOWN, 0)
    values = [
        {
            "timestamp": to_datetime(time).isoformat(),
            "value": None if np.isnan(value) else float(value),
            "breach": bool(breach),
        }
        for time, value, breach in zip(
            signal.times[first : at + 1].tolist(),
            signal.values[first : at + 1].tolist(),
            signal.breach[first : at + 1].tolist(),
            strict=True,
        )
    ]
    found: dict[str, Any] = {
        "values": values,
        "window_seconds": spec.window // SECOND,
        "trigger_count": spec.trigger_count,
    }
    if isinstance(signal, Detected):
        judged = signal.judgement
        found |= {
            "measured": float(signal.measured[at]),
            "band": [float(judged.low[at]), float(judged.high[at])],
            "reason": signal.reason(at),
        }
    return found


def _condition(comparison: Comparison) -> str:
    if isinstance(comparison.threshold, (str, bool)) or comparison.threshold is None:
        return f"{_measured(comparison)} {comparison.op} {comparison.threshold}"
    return f"{_measured(comparison)} {_limit(comparison)}"


def _measured(comparison: Comparison) -> str:
    """What of a metric is judged."""
    if comparison.kind == "trend":
        return {"slope": "slope", "rate": "rate of change", "relative": "relative change"}[
            comparison.measure
        ] + f" of {comparison.metric}"
    if comparison.kind == "forecast":
        return f"{comparison.metric} in {_duration(comparison.horizon)}"
    if comparison.aggregation:
        return f"{comparison.aggregation} of {comparison.metric} over {_duration(comparison.window)}"
    return comparison.metric


def _limit(comparison: Comparison) -> str:
    threshold = comparison.threshold
    assert threshold is not None
    return f"{_SIDES[comparison.op]} {shown(float(threshold))}"


def _with_unit(value: float, comparison: Comparison) -> str:
    unit = current_registry().unit(comparison.metric) if comparison.kind != "trend" else None
    return f"{shown(value)} {unit}" if unit else shown(value)


def _duration(micro: int) -> str:
    seconds = micro / SECOND
    for length, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length and seconds % length == 0:
            return f"{seconds // length:g} {name}"
    return f"{seconds:g} s"
