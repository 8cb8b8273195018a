"""Names in rules without an object of that name: allowed, since it may be created later, and shown as a warning."""

from collections.abc import Iterable
from dataclasses import dataclass

from alerts.conditions.spec import ANY_METRIC
from alerts.models import Channel, Rule
from metrics.query.series_lookup import find_unknown_names


@dataclass(frozen=True, slots=True)
class UnresolvedNames:
    """Names without a channel, a metric (definition or series), a device or a group."""

    channels: set[str]
    metrics: set[str]
    devices: set[str]
    groups: set[str]


def find_unresolved_names(rules: Iterable[Rule]) -> UnresolvedNames:
    """Return the unresolved names of some rules together."""
    rules = list(rules)
    channels = {name for rule in rules for name in rule.notification_channels}
    unknown = find_unknown_names(
        metrics={name for rule in rules for name in metrics_of(rule)},
        devices={name for rule in rules for name in rule.device_ids},
        groups={name for rule in rules for name in rule.device_groups},
    )
    known_channels = Channel.objects.filter(name__in=channels).values_list("name", flat=True)
    return UnresolvedNames(channels=channels - set(known_channels), **unknown)


def metrics_of(rule: Rule) -> set[str]:
    """Return the metrics that a rule names."""
    conditions = rule.parameters.get("conditions", ())
    return ({rule.metric_name} | {condition["metric_name"] for condition in conditions}) - {ANY_METRIC}
