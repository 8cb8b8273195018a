"""Serializers of alert rules."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from alerts.api.rule_documents import read_document
from alerts.models import Condition, Level, Rule, RuleKind
from alerts.models.rules import MAX_AUTO_RESOLVE_TIMEOUT, MAX_COOLDOWN_MINUTES, MAX_EVALUATION_WINDOW, MAX_TRIGGER_COUNT
from alerts.rules.lifecycle import FIELDS, document_of
from alerts.rules.unresolved_names import find_unresolved_names, metrics_of
from metrics.models import NAME_LENGTH
from rest.fields import ChoiceField, MetadataField, StrictSerializer, name_field, names_field, validate_printable

MAX_DEVICES = 10_000
MAX_CHANNELS = 100
MAX_NUMBER = 1e308
THRESHOLD_KINDS = (RuleKind.THRESHOLD, RuleKind.TREND, RuleKind.FORECAST)


@extend_schema_field({"type": ["number", "string", "boolean"]})
class ThresholdField(serializers.Field[Any, Any, Any, Any]):
    """A number, text or boolean, with its JSON type."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str) and data.isprintable() and 0 < len(data) <= NAME_LENGTH:
            return data
        if isinstance(data, bool) or (isinstance(data, int | float) and abs(data) <= MAX_NUMBER):
            return data
        accepted = f"a number, true, false or a text of 1 to {NAME_LENGTH} printable characters is accepted"
        raise serializers.ValidationError(accepted)

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "number"})
class NumberField(ThresholdField):
    """A number. `alerts.conditions.spec` rejects texts and booleans."""


class ParametersField(MetadataField):
    """Parameters of a rule kind. `alerts.conditions.spec` validates their names and values."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        parameters = super().to_internal_value(data)
        if any(isinstance(value, int) and abs(value) > MAX_NUMBER for value in _leaves(parameters)):
            raise serializers.ValidationError("contains a number out of the range of floats")
        return parameters


def _leaves(node: Any) -> Iterator[Any]:
    children = node if isinstance(node, list) else node.values() if isinstance(node, dict) else None
    if children is None:
        yield node
    for child in children or ():
        yield from _leaves(child)


def _integer_field(min_value: int, max_value: int, help_text: str, **options: Any) -> Any:
    options |= {"min_value": min_value, "max_value": max_value, "help_text": help_text}
    return serializers.IntegerField(required=False, **options)


@extend_schema_serializer(component_name="AlertRule")
class RuleSerializer(StrictSerializer, serializers.ModelSerializer[Rule]):
    """Reads the unresolved names of its rules from its context, as `missing`."""

    name = name_field(help_text="Display name.")
    description = serializers.CharField(
        max_length=10_000,
        allow_blank=True,
        required=False,
        help_text="Description of its alerts; {device}, {metric}, {value}, … are replaced.",
    )
    runbook_url = serializers.CharField(
        max_length=2000,
        allow_blank=True,
        required=False,
        validators=[validate_printable],
        help_text="URL of the runbook; with the same placeholders, percent-encoded.",
    )
    shadow_of = serializers.CharField(
        source="shadow_of.rule_id", read_only=True, allow_null=True, help_text="Live rule of a shadow rule."
    )
    metric_name = name_field(
        required=False, help_text="Metric name; `*` for any metric, with kind absence. Optional with kind composite."
    )
    kind = ChoiceField(RuleKind.choices, required=False)
    condition = ChoiceField(Condition.choices, required=False, help_text="Comparison of the value with the threshold.")
    threshold_value = ThresholdField(
        allow_null=True, required=False, help_text="Number; with == and != also a text or boolean."
    )
    clear_threshold = NumberField(
        allow_null=True, required=False, help_text="Recovery threshold: the alert is resolved only beyond this value."
    )
    aggregation = name_field(
        allow_blank=True,
        required=False,
        help_text="Aggregation over the evaluation window, such as avg; empty evaluates each value.",
    )
    parameters = ParametersField(required=False, help_text="Parameters of the rule kind.")
    level = ChoiceField(Level.choices, required=False)
    evaluation_window = _integer_field(1, MAX_EVALUATION_WINDOW, "Evaluation window in seconds.")
    trigger_count = _integer_field(1, MAX_TRIGGER_COUNT, "Breaches in the window that open an alert.")
    device_ids = names_field("Device IDs, in addition to the groups; without both, every device.", MAX_DEVICES)
    device_groups = names_field("Device groups.", MAX_DEVICES)
    notification_channels = names_field("Names of channels, including channels that do not exist yet.", MAX_CHANNELS)
    cooldown_minutes = _integer_field(0, MAX_COOLDOWN_MINUTES, "Minimum minutes between two alerts of a series.")
    auto_resolve_timeout = _integer_field(
        1, MAX_AUTO_RESOLVE_TIMEOUT, "Seconds without a breach after which an alert is resolved.", allow_null=True
    )
    other_devices = serializers.BooleanField(
        read_only=True,
        help_text="Whether the rule also reaches devices that the caller does not see: their IDs and groups are left"
        " out, triggers are counted of the caller's devices, and `noise` is null.",
    )
    unconfigured_channels = serializers.SerializerMethodField(help_text="Names of channels that do not exist.")
    unknown_metric = serializers.SerializerMethodField(
        help_text="Whether a metric of the rule has no points and no definition."
    )
    unknown_devices = serializers.SerializerMethodField(help_text="Device IDs that do not exist.")
    unknown_groups = serializers.SerializerMethodField(help_text="Device groups that do not exist.")
    noise = serializers.SerializerMethodField(
        help_text="Noise score: share of alerts without any action; null if not calculated."
    )

    class Meta:
        model = Rule
        fields = (
            "rule_id", *FIELDS, "mode", "shadow_of", "version", "total_triggers", "last_triggered", "suspended",
            "unconfigured_channels", "unknown_metric", "unknown_devices", "unknown_groups", "other_devices", "noise",
            "created_by", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = (
            "rule_id", "mode", "version", "total_triggers", "last_triggered", "suspended", "created_by", "created_at",
            "updated_at",
        )  # fmt: skip

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(read_document(data) if isinstance(data, Mapping) else data)

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        if self.partial:
            return attributes
        kind = attributes.get("kind", RuleKind.THRESHOLD)
        if kind == RuleKind.COMPOSITE:
            attributes.setdefault("metric_name", first_metric(attributes.get("parameters", {})))
        required = ("metric_name", *(("condition", "threshold_value") if kind in THRESHOLD_KINDS else ()))
        if missing := [name for name in required if attributes.get(name) in (None, "")]:
            raise serializers.ValidationError(dict.fromkeys(missing, f"is required for a rule of kind {kind}"))
        return attributes

    def get_unconfigured_channels(self, rule: Rule) -> list[str]:
        return [name for name in rule.notification_channels if name in self.context["missing"].channels]

    def get_unknown_metric(self, rule: Rule) -> bool:
        return not metrics_of(rule).isdisjoint(self.context["missing"].metrics)

    def get_unknown_devices(self, rule: Rule) -> list[str]:
        return [name for name in rule.device_ids if name in self.context["missing"].devices]

    def get_unknown_groups(self, rule: Rule) -> list[str]:
        return [name for name in rule.device_groups if name in self.context["missing"].groups]

    @extend_schema_field({"type": ["object", "null"], "additionalProperties": {}})
    def get_noise(self, rule: Rule) -> Any:
        score = getattr(rule, "noise", None)
        return None if score is None else score.figures | {"at": score.at}


def first_metric(parameters: dict[str, Any]) -> str:
    """Return the metric of the first condition: the default `metric_name` of a composite rule."""
    conditions = parameters.get("conditions")
    first = conditions[0] if isinstance(conditions, list) and conditions else None
    name = first.get("metric_name") if isinstance(first, dict) else None
    return name if isinstance(name, str) and len(name) <= NAME_LENGTH else ""


def complete_document(fields: dict[str, Any]) -> dict[str, Any]:
    """Return all fields of a rule, with defaults for the omitted ones."""
    return document_of(Rule()) | fields


def serialize_rules(rules: Sequence[Rule]) -> Any:
    """Return rules as JSON; looks up the unresolved names of all rules at once."""
    return RuleSerializer(rules, many=True, context={"missing": find_unresolved_names(rules)}).data
