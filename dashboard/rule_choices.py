"""The choices of a rule's form: values of the API with their labels."""

from alerts.conditions import spec
from alerts.models import Condition, Kind, Level

KINDS = (
    (Kind.THRESHOLD, "Threshold"),
    (Kind.TREND, "Trend"),
    (Kind.ANOMALY, "Anomaly"),
    (Kind.ABSENCE, "No data"),
    (Kind.FORECAST, "Forecast"),
    (Kind.COMPOSITE, "Composite"),
)
CONDITION_KINDS = tuple((kind, label) for kind, label in KINDS if kind in spec.CONDITION_KINDS)  # of a composite rule
COMPARISONS = (
    (Condition.ABOVE, "above"),
    (Condition.AT_LEAST, "at or above"),
    (Condition.BELOW, "below"),
    (Condition.AT_MOST, "at or below"),
    (Condition.EQUAL, "equal to"),
    (Condition.UNEQUAL, "not equal to"),
)
AGGREGATIONS = (
    ("", "each value"), ("avg", "the average"), ("min", "the minimum"), ("max", "the maximum"), ("sum", "the sum"),
    ("count", "the count"), ("median", "the median"), ("p95", "the 95th percentile"), ("p99", "the 99th percentile"),
    ("stddev", "the standard deviation"), ("first", "the first value"), ("last", "the last value"),
    ("rate", "the increase per second"),
)  # fmt: skip
MEASURES = (("slope", "the slope per second"), ("rate", "the change per second"), ("relative", "the relative change"))
LEVELS = [(level, Level(level).label) for level in Level.values]


def aggregation_choices(current: str | None) -> list[tuple[str, str]]:
    """Return the aggregations of the form, and the current one of a rule that was made by another client."""
    is_listed = not current or current in dict(AGGREGATIONS)
    return [*AGGREGATIONS, *([] if is_listed else [(str(current), str(current))])]
