"""Texts of an alert: its message in one line, and the evidence that triggered it."""

from typing import Any

import numpy as np

from alerts.conditions.spec import ANY_METRIC, SECOND, ConditionSpec, RuleSpec
from alerts.conditions.thresholds import Signal
from alerts.evaluation.absence import AbsentDevice
from alerts.evaluation.anomaly_results import AnomalySignal
from alerts.evaluation.rule_series_state import RuleSeriesState
from alerts.models import Rule
from metrics.storage.series_registry import cached_registry
from metrics.storage.units import to_datetime

MAX_EVIDENCE_VALUES = 50
_SIDES = {">": "over", ">=": "at or over", "<": "under", "<=": "at or under", "==": "equal to", "!=": "not equal to"}
_TREND_MEASURES = {"slope": "slope", "rate": "rate of change", "relative": "relative change"}


def format_number(value: float) -> str:
    return f"{value:.6g}"


def threshold_of(spec: RuleSpec, rule: Rule) -> Any:
    """Return the threshold as the API shows it; None for kinds without one."""
    return rule.threshold_value if spec.kind in ("threshold", "trend", "forecast") else None


def alert_message(state: RuleSeriesState, signal: Signal, position: int) -> str:
    """Return what is wrong at this position of the signal."""
    spec, rule, value = state.watched.spec, state.watched.rule, float(signal.values[position])
    if spec.kind == "composite":
        operator = " and " if spec.every else " or "
        return f"{state.device_id}: {operator.join(map(_describe_condition, spec.conditions))}"
    condition = spec.conditions[0]
    if isinstance(signal, AnomalySignal):
        measured, detection = float(signal.measured[position]), signal.detection
        expected = f"expected {detection.low[position]:.4g} to {detection.high[position]:.4g}"
        subject = f"{rule.metric_name} of {state.device_id} is {_with_unit(measured, condition)}"
        return f"{subject}, {expected}: {signal.reason(position)}"
    threshold = condition.threshold
    if isinstance(threshold, (str, bool)):
        text = f"“{threshold}”" if isinstance(threshold, str) else str(threshold).lower()
        return f"{rule.metric_name} of {state.device_id} is {'not ' if condition.op == '!=' else ''}{text}"
    measure = f"{_describe_measure(condition)} of {state.device_id}"
    return f"{measure} is {_with_unit(value, condition)}, {_describe_threshold(condition)}"


def absence_message(absent: AbsentDevice) -> str:
    """Return since when a device or its metric has no data."""
    metric = absent.watched.spec.metric
    of_metric = "" if metric == ANY_METRIC else f" of {metric}"
    expected = f"expected every {_format_duration(absent.expected)}"
    if not absent.last_seen:
        return f"{absent.device_id} has never sent any data{of_metric}, {expected}"
    last_seen = to_datetime(absent.last_seen)
    return f"{absent.device_id}: no data{of_metric} since {last_seen:%Y-%m-%d %H:%M:%S} UTC, {expected}"


def trigger_evidence(state: RuleSeriesState, signal: Signal, position: int) -> dict[str, Any]:
    """Return the values of the evaluation window up to a position, newest last, and the rule's limits."""
    spec = state.watched.spec
    window_start = int(signal.times.searchsorted(signal.times[position] - spec.window))
    window = slice(max(window_start, position + 1 - MAX_EVIDENCE_VALUES, 0), position + 1)
    points = zip(
        signal.times[window].tolist(), signal.values[window].tolist(), signal.breach[window].tolist(), strict=True
    )
    evidence: dict[str, Any] = {
        "values": [
            {
                "timestamp": to_datetime(time).isoformat(),
                "value": None if np.isnan(value) else float(value),
                "breach": bool(breach),
            }
            for time, value, breach in points
        ],
        "window_seconds": spec.window // SECOND,
        "trigger_count": spec.trigger_count,
    }
    if isinstance(signal, AnomalySignal):
        detection = signal.detection
        evidence |= {
            "measured": float(signal.measured[position]),
            "band": [float(detection.low[position]), float(detection.high[position])],
            "reason": signal.reason(position),
        }
    return evidence


def _describe_condition(condition: ConditionSpec) -> str:
    if isinstance(condition.threshold, (str, bool)) or condition.threshold is None:
        return f"{_describe_measure(condition)} {condition.op} {condition.threshold}"
    return f"{_describe_measure(condition)} {_describe_threshold(condition)}"


def _describe_measure(condition: ConditionSpec) -> str:
    """Return what is compared with the threshold, such as “avg of temperature over 5 min”."""
    if condition.kind == "trend":
        return f"{_TREND_MEASURES[condition.measure]} of {condition.metric}"
    if condition.kind == "forecast":
        return f"{condition.metric} in {_format_duration(condition.horizon)}"
    if condition.aggregation:
        return f"{condition.aggregation} of {condition.metric} over {_format_duration(condition.window)}"
    return condition.metric


def _describe_threshold(condition: ConditionSpec) -> str:
    assert condition.threshold is not None
    return f"{_SIDES[condition.op]} {format_number(float(condition.threshold))}"


def _with_unit(value: float, condition: ConditionSpec) -> str:
    unit = cached_registry().unit(condition.metric) if condition.kind != "trend" else None
    return f"{format_number(value)} {unit}" if unit else format_number(value)


def _format_duration(microseconds: int) -> str:
    seconds = microseconds / SECOND
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length and seconds % length == 0:
            return f"{seconds // length:g} {unit}"
    return f"{seconds:g} s"
