"""Values of an alert in words: its name, its peak, and the newest value of its series."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from alerts.conditions.spec import ANY_METRIC
from alerts.models import Alert, RuleKind
from metrics.query import latest
from metrics.value_text import NBSP, with_unit

NEWEST_WITHIN = timedelta(days=1)  # an older value is not shown as the current one
COMPARED_KINDS = (RuleKind.THRESHOLD, RuleKind.FORECAST)  # their values are those of the series


def headline(alert: Alert) -> str:
    """Return the rule and the series: "Too hot: temperature of boiler". Unlike the message, it has no old value."""
    subject = alert.device_name if alert.metric_name == ANY_METRIC else f"{alert.metric_name} of {alert.device_name}"
    return f"{alert.rule_name}: {subject}"


def peak_and_current(alert: Alert, unit: str, current: Any) -> str:
    """Return the value furthest beyond the threshold and the newest one: "peak 120 °C, now 85 °C"."""
    parts = []
    if compares_values(alert) and has_peak(alert.worst_value):
        parts.append(f"peak {with_unit(alert.worst_value, unit, alert.threshold)}")
    if current is not None:
        parts.append(f"now {with_unit(current, unit, alert.threshold)}")
    return ", ".join(parts).replace(NBSP, " ")


def has_peak(worst_value: Any) -> bool:
    """Return whether a worst value is a number: texts and booleans have no peak."""
    return isinstance(worst_value, int | float) and not isinstance(worst_value, bool)


def compares_values(alert: Alert) -> bool:
    """Return whether the rule compares the values of the series themselves; `alert.rule` must be loaded."""
    return alert.rule is None or (alert.rule.kind in COMPARED_KINDS and not alert.rule.aggregation)


def read_current_values(alerts: Iterable[Alert]) -> dict[int, Any]:
    """Return the newest value of the series of each alert, by primary key, where the rule compares such values."""
    compared = [alert for alert in alerts if alert.device_id is not None and compares_values(alert)]
    if not compared:
        return {}
    devices: Sequence[str] = sorted({alert.device_name for alert in compared})
    points = latest.read_latest_points(devices, sorted({alert.metric_name for alert in compared}), NEWEST_WITHIN).points
    values = {(point.device_id, point.metric_name): point.value for point in points}
    return {
        alert.pk: values[alert.device_name, alert.metric_name]
        for alert in compared
        if (alert.device_name, alert.metric_name) in values
    }
