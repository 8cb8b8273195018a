"""What rules name and nobody has made or heard of yet: that is allowed, and said."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connection

from alerts.conditions.spec import ANY_METRIC
from alerts.models import Rule

_MISSING = """
SELECT 'channels', name FROM unnest(%s::text[]) AS n(name)
WHERE NOT EXISTS (SELECT FROM alerts_channel c WHERE c.name = n.name)
UNION ALL
SELECT 'metrics', name FROM unnest(%s::text[]) AS n(name)
WHERE NOT EXISTS (SELECT FROM metrics_series s WHERE s.metric_name = n.name)
    AND NOT EXISTS (SELECT FROM metrics_metricdefinition d WHERE d.name = n.name)
UNION ALL
SELECT 'devices', name FROM unnest(%s::text[]) AS n(name)
WHERE NOT EXISTS (SELECT FROM metrics_device d WHERE d.device_id = n.name)
UNION ALL
SELECT 'groups', name FROM unnest(%s::text[]) AS n(name)
WHERE NOT EXISTS (SELECT FROM metrics_devicegroup g WHERE g.name = n.name)
"""


@dataclass(slots=True)
class Missing:
    """Of the names in rules, those of nothing that there is."""

    channels: set[str]
    metrics: set[str]
    devices: set[str]
    groups: set[str]


def missing_of(rules: Iterable[Rule]) -> Missing:
    """For all of some rules at once."""
    found = Missing(set(), set(), set(), set())
    rules = list(rules)
    named = (
        {name for rule in rules for name in rule.notification_channels},
        {name for rule in rules for name in metrics_of(rule)},
        {name for rule in rules for name in rule.device_ids},
        {name for rule in rules for name in rule.device_groups},
    )
    with connection.cursor() as cursor:
        cursor.execute(_MISSING, [sorted(names) for names in named])
        for kind, name in cursor.fetchall():
            getattr(found, kind).add(name)
    return found


def metrics_of(rule: Rule) -> set[str]:
    """The metrics that a rule names."""
    named = {rule.metric_name} | {one["metric_name"] for one in rule.parameters.get("conditions", ())}
    return named - {ANY_METRIC}
