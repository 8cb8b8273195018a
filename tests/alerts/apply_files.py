"""Files of rules as code, and their application, for tests."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from alerts.models import Channel, Route, Rule, RuleGeneration, RuleVersion, Silence
from alerts.rules import lifecycle
from alerts.rules.as_code.apply import apply
from alerts.rules.as_code.plan import ApplyPlan, ChangeKind
from alerts.rules.as_code.yaml_reader import InvalidFile
from metrics.models import AuditEntry

SECRETS = {"OPS_URL": "https://hooks.example.com/T0/$ecret", "OPS_SECRET": "hush ${not a name}"}
FULL_FILE = """
version: 1
channels:
  - name: ops
    kind: webhook
    url: ${OPS_URL}
    secret: ${OPS_SECRET}
  - {name: mail, kind: email, addresses: [ops@example.com], gather_seconds: 30}
rules:
  - rule_id: high-cpu
    name: High CPU
    metric_name: cpu
    condition: '>'
    threshold_value: 90
    clear_threshold: 80.5
    aggregation: avg
    level: critical
    device_groups: [site a]
    notification_channels: [ops, slack]
    description: |
      {device} is busy.
      It was {value}
  - name: Door open
    metric_name: door
    condition: ==
    threshold_value: open
  - name: Silent
    metric_name: '*'
    kind: absence
    parameters: {grace: 5}
  - name: Hot and wet
    metric_name: temperature
    kind: composite
    parameters:
      operator: and
      conditions:
        - {metric_name: temperature, condition: '>', threshold_value: 30}
        - {metric_name: humidity, condition: '>', threshold_value: 80}
routes:
  - name: nights
    levels: [critical, emergency]
    channels: [mail]
    weekly: {days: [0, 1], from: 22:00, to: 06:00, timezone: Europe/Berlin}
    escalation: [{after_minutes: 10, channels: [ops]}]
silences:
  - silence_id: rebuild-of-a
    reason: site a is rebuilt
    starts_at: TODAY
    ends_at: TOMORROW
    device_groups: [site a]
    rule_ids: [high-cpu]
"""
TODAY = datetime.now(UTC).replace(microsecond=0)
BERLIN = timezone(timedelta(hours=1))
FULL_FILE = FULL_FILE.replace("TODAY", TODAY.astimezone(BERLIN).isoformat())
FULL_FILE = FULL_FILE.replace("TOMORROW", f"{TODAY + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}")


def apply_text(text: str, **options: bool) -> ApplyPlan:
    return apply(text.encode(), SECRETS, **options)


def read_errors(text: str | bytes, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidFile) as raised:
        apply(text if isinstance(text, bytes) else text.encode(), SECRETS if environment is None else environment)
    return [str(error) for error in raised.value.errors]


def count_changes(plan: ApplyPlan) -> tuple[int, int, int, int]:
    kinds = [change.kind for change in plan.changes]
    return (
        kinds.count(ChangeKind.CREATE),
        kinds.count(ChangeKind.CHANGE),
        kinds.count(ChangeKind.DELETE),
        plan.unchanged,
    )


def create_rule(name: str = "r", **fields: Any) -> Rule:
    return lifecycle.create({"name": name, "metric_name": "m", "threshold_value": 1} | fields, "user:somebody")


def read_state() -> list[tuple[int, ...]]:
    """Return row counts of all tables that an apply may change, and the rule generation."""
    counts = [model.objects.count() for model in (Rule, RuleVersion, Channel, Route, Silence, AuditEntry)]
    return [tuple(counts), tuple(RuleGeneration.objects.values_list("number", flat=True))]
