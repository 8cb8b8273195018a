"""What there is to choose from in the form of a rule, in the words of the API and in those of people."""

from collections.abc import Iterable

from alerts.conditions import spec
from alerts.models import Condition, Kind, Level

KINDS = (
    (Kind.THRESHOLD, "Limit"),
    (Kind.TREND, "Trend"),
    (Kind.ANOMALY, "Unusual"),
    (Kind.ABSENCE, "Missing"),
    (Kind.FORECAST, "Forecast"),
    (Kind.COMPOSITE, "Several"),
)
PARTS = tuple((kind, words) for kind, words in KINDS if kind in spec.PARTS)  # what each of several may be
CONDITIONS = (
    (Condition.ABOVE, "above"),
    (Condition.AT_LEAST, "at or above"),
    (Condition.BELOW, "below"),
    (Condition.AT_MOST, "at or below"),
    (Condition.EQUAL, "exactly"),
    (Condition.UNEQUAL, "anything but"),
)
AGGREGATIONS = (
    ("", "each value"), ("avg", "the average"), ("min", "the lowest"), ("max", "the highest"), ("sum", "the sum"),
    ("count", "the number"), ("median", "the median"), ("p95", "the 95th percentile"), ("p99", "the 99th percentile"),
    ("stddev", "the deviation"), ("first", "the first"), ("last", "the last"), ("rate", "the increase per second"),
)  # fmt: skip
MEASURES = (("slope", "the slope per second"), ("rate", "the change per second"), ("relative", "the relative change"))
LEVELS = [(level, Level(level).label) for level in Level.values]


def aggregations(chosen: str | None) -> Iterable[tuple[str, str]]:
    """What is offered, and what was chosen elsewhere."""
    return AGGREGATIONS if not chosen or chosen in dict(AGGREGATIONS) else (*AGGREGATIONS, (chosen, chosen))
