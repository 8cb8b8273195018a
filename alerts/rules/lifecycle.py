"""Rules made, changed, put back and deleted: each change is a version, and takes effect within a moment."""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from alerts import alert_actions
from alerts.conditions.spec import BadRule, Spec, read_spec
from alerts.models import Alert, Mode, Resolution, Rule, RuleVersion
from alerts.rules.message_template import check_template
from rest.errors import NotFound

FIELDS = (
    "name", "description", "runbook_url", "enabled", "metric_name", "kind", "condition", "threshold_value",
    "clear_threshold", "aggregation", "parameters", "level", "evaluation_window", "trigger_count", "device_ids",
    "device_groups", "notification_channels", "cooldown_minutes", "auto_resolve", "auto_resolve_timeout",
)  # fmt: skip

TEMPLATES = ("name", "description", "runbook_url")  # fields whose names in braces are filled in


def document_of(rule: Rule) -> dict[str, Any]:
    """What is set of a rule, by field: what a version keeps, and what evaluation reads."""
    return {name: getattr(rule, name) for name in FIELDS}


def spec_of(rule: Rule) -> Spec:
    """The rule as it is evaluated. Raises BadRule."""
    return read_spec(document_of(rule))


def check(rule: Rule) -> None:
    """Raises BadRule with everything that is wrong with what a rule judges by and says."""
    errors = [(name, told) for name in TEMPLATES if (told := check_template(getattr(rule, name))) is not None]
    if rule.runbook_url and not rule.runbook_url.startswith(("https://", "http://")):
        errors.append(("runbook_url", "an address that begins with https:// or http:// is accepted"))
    try:
        spec_of(rule)
    except BadRule as error:
        errors += error.fields
    if errors:
        raise BadRule(errors)


@transaction.atomic
def create(fields: Mapping[str, Any], by: str, shadow_of: Rule | None = None, rule_id: str | None = None) -> Rule:
    """A new rule of checked fields; with `shadow_of` one that is tried beside another. Raises BadRule.

    `rule_id` is for rules that come from another site or out of a file; by itself a rule gets one of its own.
    """
    rule = Rule(**{name: fields[name] for name in FIELDS if name in fields}, created_by=by)
    if rule_id is not None:
        rule.rule_id = rule_id
    if shadow_of is not None:
        rule.mode, rule.shadow_of = Mode.SHADOW, shadow_of
    check(rule)
    rule.save()
    _keep(rule, by, "")
    return rule


@transaction.atomic
def change(rule: Rule, fields: Mapping[str, Any], by: str, note: str = "") -> Rule:
    """Set some fields of a rule, as its next version where any of them differs. Raises BadRule."""
    rule = Rule.objects.select_for_update(no_key=True).get(pk=rule.pk)
    before = _text(rule)  # as text: True is another threshold than 1
    for name in FIELDS:
        if name in fields:
            setattr(rule, name, fields[name])
    if _text(rule) == before and not rule.suspended:
        return rule
    check(rule)
    rule.version += 1
    rule.suspended = ""
    rule.updated_at = timezone.now()
    rule.save()
    _keep(rule, by, note)
    return rule


def put_back(rule: Rule, version: int, by: str) -> Rule:
    """Make a version of before the newest one. Raises NotFound."""
    found = rule.versions.filter(version=version).first()
    if found is None:
        raise NotFound(f"{rule.rule_id} has no version {version}")
    return change(rule, found.document, by, f"as in version {version}")


def promote(shadow: Rule, by: str) -> Rule:
    """What was tried becomes the next version of the rule that it was tried for; the shadow is gone."""
    assert shadow.shadow_of is not None
    with transaction.atomic():
        fields = {name: value for name, value in document_of(shadow).items() if name not in ("name", "enabled")}
        changed = change(shadow.shadow_of, fields, by, f"tried as {shadow.name}")
        delete(shadow, by)
        return changed


@transaction.atomic
def delete(rule: Rule, by: str) -> None:
    """The rule is gone, its shadows with it. Its open alerts are resolved; all of them stay."""
    alert_actions.resolve(Alert.objects.filter(Q(rule=rule) | Q(rule__shadow_of=rule)).open(), Resolution.RULE, by)
    rule.delete()


def _text(rule: Rule) -> str:
    return json.dumps(document_of(rule), sort_keys=True)


def _keep(rule: Rule, by: str, note: str) -> None:
    RuleVersion.objects.create(rule=rule, version=rule.version, document=document_of(rule), by=by, note=note)
