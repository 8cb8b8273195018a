"""Alert rules as the API reads and shows them."""

from collections.abc import Iterator, Sequence
from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from alerts.models import Condition, Kind, Level, Rule
from alerts.models.rules import MAX_AUTO_RESOLVE_TIMEOUT, MAX_COOLDOWN_MINUTES, MAX_EVALUATION_WINDOW, MAX_TRIGGER_COUNT
from alerts.rules.lifecycle import FIELDS, document_of
from alerts.rules.unresolved_names import find_unresolved_names, metrics_of
from metrics.api.definitions import ChoiceField
from metrics.models import NAME_LENGTH
from rest.configuration import Known, MetadataField, name_field, printable

MOST_DEVICES = 10_000  # that a rule names
MOST_CHANNELS = 100
LARGEST = 1e308
COMPARED = (Kind.THRESHOLD, Kind.TREND, Kind.FORECAST)  # with a threshold, which has to be given


@extend_schema_field({"type": ["number", "string", "boolean"]})
class ThresholdField(serializers.Field[Any, Any, Any, Any]):
    """A number, a text or a truth value, as it is."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str) and data.isprintable() and 0 < len(data) <= NAME_LENGTH:
            return data
        if isinstance(data, bool) or (isinstance(data, int | float) and abs(data) <= LARGEST):
            return data
        told = f"a number, true, false or a text of 1 to {NAME_LENGTH} printable characters is accepted"
        raise serializers.ValidationError(told)

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "number"})
class NumberField(ThresholdField):
    """A number within the range of numbers; texts and truth values are refused by alerts.conditions.spec."""


class ParametersField(MetadataField):
    """What a kind of rule asks for besides; which names are known is said by alerts.conditions.spec."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        found = super().to_internal_value(data)
        if any(isinstance(one, int) and abs(one) > LARGEST for one in _leaves(found)):
            raise serializers.ValidationError("a number in it is out of the range of numbers")
        return found


def _leaves(node: Any) -> Iterator[Any]:
    inner = node if isinstance(node, list) else node.values() if isinstance(node, dict) else None
    if inner is None:
        yield node
    for one in inner or ():
        yield from _leaves(one)


def _names(told: str, most: int = MOST_DEVICES) -> Any:
    return serializers.ListField(child=name_field(), max_length=most, required=False, help_text=told)


def _whole(least: int, most: int, told: str, **more: Any) -> Any:
    return serializers.IntegerField(min_value=least, max_value=most, required=False, help_text=told, **more)


@extend_schema_serializer(component_name="AlertRule")
class RuleSerializer(Known, serializers.ModelSerializer[Rule]):
    """What there is of what a rule names comes from the context: `find_unresolved_names` its rules."""

    name = name_field(help_text="What people call it.")
    description = serializers.CharField(
        max_length=10_000,
        allow_blank=True,
        required=False,
        help_text="What alerts of it say; {device}, {metric}, {value}, … are filled in.",
    )
    runbook_url = serializers.CharField(
        max_length=2000,
        allow_blank=True,
        required=False,
        validators=[printable],
        help_text="Where it says what to do; filled in too.",
    )
    shadow_of = serializers.CharField(
        source="shadow_of.rule_id", read_only=True, allow_null=True, help_text="The rule that it is tried for."
    )
    metric_name = name_field(required=False, help_text="`*` with absence: any metric. Not needed with composite.")
    kind = ChoiceField(Kind.choices, required=False)
    condition = ChoiceField(Condition.choices, required=False, help_text="How a value is compared with the threshold.")
    threshold_value = ThresholdField(
        allow_null=True, required=False, help_text="A number; with == and != a text or truth value too."
    )
    clear_threshold = NumberField(
        allow_null=True, required=False, help_text="A value is well again only beyond this one."
    )
    aggregation = name_field(
        allow_blank=True, required=False, help_text="Of the values in the window, such as avg; empty: each value."
    )
    parameters = ParametersField(required=False, help_text="What the kind of rule asks for besides.")
    level = ChoiceField(Level.choices, required=False)
    evaluation_window = _whole(1, MAX_EVALUATION_WINDOW, "Seconds.")
    trigger_count = _whole(1, MAX_TRIGGER_COUNT, "So many values of the window have to meet the condition.")
    device_ids = _names("These devices, besides those of the groups; neither: every device.")
    device_groups = _names("The devices of these groups.")
    notification_channels = _names("Names of channels, of which some may not exist yet.", MOST_CHANNELS)
    cooldown_minutes = _whole(0, MAX_COOLDOWN_MINUTES, "Between two alerts of one series.")
    auto_resolve_timeout = _whole(
        1, MAX_AUTO_RESOLVE_TIMEOUT, "Seconds without a further breach after which an alert is closed.", allow_null=True
    )
    unconfigured_channels = serializers.SerializerMethodField(help_text="Channels of it that nobody has made yet.")
    unknown_metric = serializers.SerializerMethodField(help_text="Nothing has been measured or defined of a metric.")
    unknown_devices = serializers.SerializerMethodField(help_text="Devices of it that nobody knows yet.")
    unknown_groups = serializers.SerializerMethodField(help_text="Groups of it that nobody has made yet.")
    noise = serializers.SerializerMethodField(help_text="How much of what it said was worth saying; null: not known.")

    class Meta:
        model = Rule
        fields = (
            "rule_id", *FIELDS, "mode", "shadow_of", "version", "total_triggers", "last_triggered", "suspended",
            "unconfigured_channels", "unknown_metric", "unknown_devices", "unknown_groups", "noise", "created_by",
            "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = (
            "rule_id", "mode", "version", "total_triggers", "last_triggered", "suspended", "created_by", "created_at",
            "updated_at",
        )  # fmt: skip

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        if self.partial:
            return attributes
        kind = attributes.get("kind", Kind.THRESHOLD)
        if kind == Kind.COMPOSITE:
            attributes.setdefault("metric_name", first_metric(attributes.get("parameters", {})))
        needed = ("metric_name", *(("condition", "threshold_value") if kind in COMPARED else ()))
        if missing := [name for name in needed if attributes.get(name) in (None, "")]:
            raise serializers.ValidationError(dict.fromkeys(missing, f"is needed for a rule of kind {kind}"))
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
    """What a composite is listed under where nobody has said: the metric of its first condition."""
    conditions = parameters.get("conditions")
    first = conditions[0] if isinstance(conditions, list) and conditions else None
    name = first.get("metric_name") if isinstance(first, dict) else None
    return name if isinstance(name, str) and len(name) <= NAME_LENGTH else ""


def whole(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a rule, with those that were not sent as they are of a new one."""
    return document_of(Rule()) | fields


def shapes(rules: Sequence[Rule]) -> Any:
    """Rules as the API shows them; what they lack is looked up for all at once."""
    return RuleSerializer(rules, many=True, context={"missing": find_unresolved_names(rules)}).data
