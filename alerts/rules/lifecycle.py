"""Create, change, roll back, promote and delete rules. Each change is stored as a version and applies at once."""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from alerts import alert_actions
from alerts.conditions.spec import RuleSpec, read_spec
from alerts.models import Alert, Mode, Resolution, Rule, RuleVersion
from alerts.rules.message_template import check_template
from rest.errors import InvalidFields, NotFound
from rest.names import name_error

FIELDS = (
    "name", "description", "runbook_url", "enabled", "metric_name", "kind", "condition", "threshold_value",
    "clear_threshold", "aggregation", "parameters", "level", "evaluation_window", "trigger_count", "device_ids",
    "device_groups", "notification_channels", "cooldown_minutes", "auto_resolve", "auto_resolve_timeout",
)  # fmt: skip

TEMPLATE_FIELDS = ("name", "description", "runbook_url")  # may contain placeholders


def document_of(rule: Rule) -> dict[str, Any]:
    """Return the fields of a rule: the content of a version, and the input of evaluation."""
    return {name: getattr(rule, name) for name in FIELDS}


def spec_of(rule: Rule) -> RuleSpec:
    """Return the rule as it is evaluated. Raises InvalidFields."""
    return read_spec(document_of(rule))


def validate(rule: Rule) -> None:
    """Raise InvalidFields with every error of a rule, if there is any."""
    checked = [(name, check_template(getattr(rule, name))) for name in TEMPLATE_FIELDS]
    errors = [(name, error) for name, error in checked if error is not None]
    if (error := name_error(rule.name)) and not Rule.objects.filter(pk=rule.pk, name=rule.name).exists():
        errors.append(("name", error))
    if rule.runbook_url and not rule.runbook_url.startswith(("https://", "http://")):
        errors.append(("runbook_url", "a URL that begins with https:// or http:// is accepted"))
    try:
        spec_of(rule)
    except InvalidFields as error:
        errors += error.fields
    if errors:
        raise InvalidFields(errors)


@transaction.atomic
def create(fields: Mapping[str, Any], by: str, shadow_of: Rule | None = None, rule_id: str | None = None) -> Rule:
    """Create a rule; with `shadow_of` a shadow rule of another. Raises InvalidFields.

    `rule_id` is for rules from a file or another site; by default a new one is generated.
    """
    rule = Rule(**{name: fields[name] for name in FIELDS if name in fields}, created_by=by)
    if rule_id is not None:
        rule.rule_id = rule_id
    if shadow_of is not None:
        rule.mode, rule.shadow_of = Mode.SHADOW, shadow_of
    validate(rule)
    rule.save()
    _store_version(rule, by, "")
    return rule


@transaction.atomic
def change(rule: Rule, fields: Mapping[str, Any], by: str, note: str = "") -> Rule:
    """Change some fields of a rule. Stores a new version if any differs. Raises InvalidFields."""
    rule = Rule.objects.select_for_update(no_key=True).get(pk=rule.pk)
    before = _as_json(rule)  # a text, since True == 1
    for name in FIELDS:
        if name in fields:
            setattr(rule, name, fields[name])
    if _as_json(rule) == before and not rule.suspended:
        return rule
    validate(rule)
    rule.version += 1
    rule.suspended = ""
    rule.updated_at = timezone.now()
    rule.save()
    _store_version(rule, by, note)
    return rule


def roll_back(rule: Rule, version: int, by: str) -> Rule:
    """Store the content of an earlier version as a new one. Raises NotFound."""
    earlier = rule.versions.filter(version=version).first()
    if earlier is None:
        raise NotFound(f"{rule.rule_id} has no version {version}")
    return change(rule, earlier.document, by, f"rolled back to version {version}")


def promote(shadow: Rule, by: str) -> Rule:
    """Make a shadow rule the next version of the rule it shadows, and delete it."""
    assert shadow.shadow_of is not None
    with transaction.atomic():
        fields = {name: value for name, value in document_of(shadow).items() if name not in ("name", "enabled")}
        changed = change(shadow.shadow_of, fields, by, f"promoted from shadow rule {shadow.name}")
        delete(shadow, by)
        return changed


@transaction.atomic
def delete(rule: Rule, by: str) -> None:
    """Delete a rule and its shadow rules. Their open alerts are resolved; all alerts are kept."""
    alert_actions.resolve(Alert.objects.filter(Q(rule=rule) | Q(rule__shadow_of=rule)).open(), Resolution.RULE, by)
    rule.delete()


def _as_json(rule: Rule) -> str:
    return json.dumps(document_of(rule), sort_keys=True)


def _store_version(rule: Rule, by: str, note: str) -> None:
    RuleVersion.objects.create(rule=rule, version=rule.version, document=document_of(rule), by=by, note=note)
