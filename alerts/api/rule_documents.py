"""Rule documents of the alerting specification, read into the fields of a rule.

Such a document names the kind of rule as `condition` and its metric, operator and threshold in `parameters`; `severity`
is the level, and `actions` are channels.

    {"name": "High temperature", "condition": "threshold", "severity": "critical", "actions": ["log_alert"],
     "parameters": {"field": "temperature", "operator": ">", "value": 80}}
"""

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings

from alerts.models import Channel, ChannelKind, Condition, RuleKind
from alerts.notifications import channel_lifecycle
from rest.errors import InvalidFields

DOCUMENT_KINDS = (RuleKind.THRESHOLD.value, RuleKind.TREND.value, RuleKind.ANOMALY.value)
ALIASES = {"severity": "level", "actions": "notification_channels"}
PARAMETERS = {  # parameter of a document: field of a rule, by the kinds that have it
    "field": ("metric_name", DOCUMENT_KINDS),
    "operator": ("condition", (RuleKind.THRESHOLD, RuleKind.TREND)),
    "value": ("threshold_value", (RuleKind.THRESHOLD,)),
    "threshold": ("threshold_value", (RuleKind.TREND,)),
    "window": ("evaluation_window", DOCUMENT_KINDS),
}
DEFAULT_OPERATORS: dict[str, str] = {RuleKind.TREND: Condition.ABOVE.value}


def read_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a rule; a body without names of the specification is returned as it is.

    Raises InvalidFields if a field is there under both of its names.
    """
    fields = dict(document)
    errors = [(alias, f"is an alias of {name}: send only one of them") for alias, name in ALIASES.items()
              if alias in fields and name in fields]  # fmt: skip
    for alias, name in ALIASES.items():
        if alias in fields:
            fields[name] = fields.pop(alias)
    if fields.get("condition") in DOCUMENT_KINDS:
        errors += _move_parameters(fields)
    if errors:
        raise InvalidFields(errors)
    return fields


def _move_parameters(fields: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Set kind, metric, condition, threshold and window from `condition` and `parameters`; yield errors."""
    kind = fields.pop("condition")
    if fields.setdefault("kind", kind) != kind:
        yield "condition", f"is {kind}, but kind is {fields['kind']}"
    parameters = fields.get("parameters", {})
    if not isinstance(parameters, Mapping):
        return  # the field's own validation names what is accepted
    fields["parameters"] = {}
    for parameter, value in parameters.items():
        name, kinds = PARAMETERS.get(parameter, ("", ()))
        if kind not in kinds:
            fields["parameters"][parameter] = value
        elif name in fields:
            yield f"parameters.{parameter}", f"is an alias of {name}: send only one of them"
        else:
            fields[name] = value
    if kind in DEFAULT_OPERATORS:
        fields.setdefault("condition", DEFAULT_OPERATORS[kind])


def create_action_channels(names: Iterable[Any], by: str) -> None:
    """Create a channel for each of these names that is a registered action and no channel yet."""
    wanted = [name for name in names if isinstance(name, str) and name in settings.ALERT_ACTIONS]
    existing = set(Channel.objects.filter(name__in=wanted).values_list("name", flat=True))
    for name in dict.fromkeys(wanted):
        if name not in existing:
            channel_lifecycle.create_channel({"name": name, "kind": ChannelKind.ACTION, "action": name}, by)
