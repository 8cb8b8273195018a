"""Texts of an alert: its message in one line, and the evidence that triggered it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from alerts.conditions.spec import ANY_METRIC, SECOND, ConditionSpec, RuleSpec
from alerts.conditions.thresholds import Signal
from alerts.evaluation.absence import AbsentDevice
from alerts.evaluation.anomaly_results import AnomalySignal
from alerts.evaluation.rule_series_state import RuleSeriesState
from alerts.models import Rule
from metrics.storage.series_registry import current_registry
from metrics.storage.units import to_datetime
from metrics.value_text import NBSP, number_text, with_unit

MAX_EVIDENCE_VALUES = 50
_SIDES = {">": "over", ">=": "at or over", "<": "under", "<=": "at or under", "==": "equal to", "!=": "not equal to"}
_TREND_MEASURES = {"slope": "slope", "rate": "rate of change", "relative": "relative change"}


def threshold_of(spec: RuleSpec, rule: Rule) -> Any:
    """Return the threshold as the API shows it; None for kinds without one."""
    return rule.threshold_value if spec.kind in ("threshold", "trend", "forecast") else None


def alert_message(state: RuleSeriesState, signal: Signal, position: int, value: Any, unit: str) -> str:
    """Return what is wrong at this position of the signal, where the rule compared `value`."""
    spec, rule = state.watched.spec, state.watched.rule
    if spec.kind == "composite":
        operator = " and " if spec.every else " or "
        return f"{state.device_id}: {operator.join(map(_describe_condition, spec.conditions))}"
    condition = spec.conditions[0]
    if isinstance(signal, AnomalySignal):
        measured, detection = float(signal.measured[position]), signal.detection
        low, high = float(detection.low[position]), float(detection.high[position])
        expected = f"expected {quantity(low, unit, measured, high)} to {quantity(high, unit, measured, low)}"
        subject = f"{rule.metric_name} of {state.device_id} is {quantity(measured, unit, low, high)}"
        return f"{subject}, {expected}: {anomaly_reason(signal, position, unit)}"
    subject = f"{_describe_measure(condition)} of {state.device_id} is {quantity(value, unit, condition.threshold)}"
    if condition.op == "==" and isinstance(condition.threshold, (str, bool)):
        return subject
    return f"{subject}, {_describe_threshold(condition, unit, value)}"


def quantity(value: Any, unit: str, *beside: Any) -> str:
    """Return a value with its unit, in the text of pages, with an ordinary space."""
    text = with_unit(" ".join(value.split()) if isinstance(value, str) else value, unit, *beside)
    return text.replace(NBSP, " ")


def anomaly_reason(signal: AnomalySignal, position: int, unit: str) -> str:
    """Return why a point is an anomaly; the usual change has three significant digits and the unit."""
    if not unit:
        return signal.reason(position)
    return signal.reason(position, lambda value: quantity(float(f"{value:.3g}"), unit))


def absence_message(absent: AbsentDevice) -> str:
    """Return since when a device or its metric has no data."""
    metric = absent.watched.spec.metric
    of_metric = "" if metric == ANY_METRIC else f" of {metric}"
    expected = f"expected every {_format_duration(absent.expected)}"
    if not absent.last_seen:
        return f"{absent.device_id} has never sent any data{of_metric}, {expected}"
    last_seen = to_datetime(absent.last_seen)
    return f"{absent.device_id}: no data{of_metric} since {last_seen:%Y-%m-%d %H:%M:%S} UTC, {expected}"


def trigger_evidence(
    state: RuleSeriesState, signal: Signal, position: int, texts: Mapping[int, str], unit: str
) -> dict[str, Any]:
    """Return the values of the evaluation window up to a position, newest last, and the rule's limits.

    `texts` are the values of a text metric by time (µs).
    """
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
                "value": compared_value(state, value, texts.get(time)),
                "breach": bool(breach),
            }
            for time, value, breach in points
        ],
        "unit": unit,
        "window_seconds": spec.window // SECOND,
        "trigger_count": spec.trigger_count,
    }
    if isinstance(signal, AnomalySignal):
        detection = signal.detection
        evidence |= {
            "measured": float(signal.measured[position]),
            "band": [float(detection.low[position]), float(detection.high[position])],
            "reason": anomaly_reason(signal, position, unit),
            "gravity": float(detection.gravity[position]),
        }
    return evidence


def compared_value(state: RuleSeriesState, value: float, text: str | None) -> float | bool | str | None:
    """Return a value of a signal as it was sent: the text of a text metric, true or false of a boolean one."""
    spec = state.watched.spec
    compared = spec.conditions[:1] if spec.every else spec.conditions  # the first one that is met has the value
    if not any(isinstance(condition.threshold, (str, bool)) for condition in compared):
        return None if np.isnan(value) else float(value)
    if len(spec.conditions) > 1:
        return None
    return text if isinstance(compared[0].threshold, str) else bool(value)


def _describe_condition(condition: ConditionSpec) -> str:
    threshold = condition.threshold
    if threshold is None:
        return f"{_describe_measure(condition)} is anomalous"
    if isinstance(threshold, (str, bool)):
        return f"{_describe_measure(condition)} is {_describe_threshold(condition, '', None)}"
    return f"{_describe_measure(condition)} {_describe_threshold(condition, defined_unit(condition), None)}"


def _describe_measure(condition: ConditionSpec) -> str:
    """Return what is compared with the threshold, such as “avg of temperature over 5 min”."""
    if condition.kind == "trend":
        return f"{_TREND_MEASURES[condition.measure]} of {condition.metric}"
    if condition.kind == "forecast":
        return f"{condition.metric} in {_format_duration(condition.horizon)}"
    if condition.aggregation:
        return f"{condition.aggregation} of {condition.metric} over {_format_duration(condition.window)}"
    return condition.metric


def _describe_threshold(condition: ConditionSpec, unit: str, value: Any) -> str:
    """Return the threshold in words; `value` is the one beside it in the text."""
    threshold = quantity(condition.threshold, unit, value)
    if isinstance(condition.threshold, (str, bool)):
        return f"not {threshold}" if condition.op == "!=" else threshold
    return f"{_SIDES[condition.op]} {threshold}"


def has_unit(condition: ConditionSpec) -> bool:
    """Return whether the compared value has the unit of the metric: slopes and counts have another one."""
    is_text = isinstance(condition.threshold, (str, bool))
    return condition.kind != "trend" and condition.aggregation not in ("count", "rate") and not is_text


def defined_unit(condition: ConditionSpec) -> str:
    """Return the unit in the metric's definition, where the compared value has it."""
    return (current_registry().unit(condition.metric) or "") if has_unit(condition) else ""


def _format_duration(microseconds: int) -> str:
    seconds = microseconds / SECOND
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length and seconds % length == 0:
            return f"{number_text(seconds // length)} {unit}"
    return f"{number_text(seconds)} s"
