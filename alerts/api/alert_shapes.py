"""Alerts as the API shows them, and what lists of them are chosen by."""

from datetime import UTC
from typing import Any

from django.db.models import Q
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from alerts.api.lists import ChoicesField, levels, maybe, text
from alerts.models import Alert, AlertEvent, Resolution, Status
from alerts.models.alerts import AlertQuerySet
from metrics.models import Device, DeviceGroup
from rest.caller import Caller

MOST_TOLD = 1000  # lines of a timeline
ANY = {"description": "A number, a text, a truth value, or null."}


@extend_schema_field(ANY)
class JudgedField(serializers.JSONField):
    """What was judged, as it is."""


@extend_schema_serializer(component_name="Alert")
class AlertSerializer(serializers.ModelSerializer[Alert]):
    rule_id = serializers.CharField(source="rule.rule_id", default=None, allow_null=True, help_text="Null: it is gone.")
    device_id = serializers.CharField(source="device_name")
    threshold_value = JudgedField(source="threshold", help_text="What it was compared with.")
    value = JudgedField(help_text="What was judged when it was triggered.")
    worst_value = JudgedField(help_text="The value furthest beyond the threshold since.")
    resolution = serializers.ChoiceField(["", *Resolution.values], help_text="Why it is resolved; empty: it is not.")
    incident_id = serializers.CharField(source="incident.incident_id", default=None, allow_null=True)

    class Meta:
        model = Alert
        fields: tuple[str, ...] = (
            "alert_id", "rule_id", "rule_name", "rule_version", "device_id", "metric_name", "level", "status", "shadow",
            "retroactive", "value", "worst_value", "threshold_value", "message", "description", "runbook_url",
            "triggered_at", "raised_at", "last_breach_at", "acknowledged_by", "acknowledged_at",
            "acknowledgement_note", "resolved_by", "resolved_at", "resolution", "resolution_note", "owner",
            "incident_id", "updated_at",
        )  # fmt: skip
        read_only_fields = fields


class AlertEventSerializer(serializers.ModelSerializer[AlertEvent]):
    details = serializers.DictField()

    class Meta:
        model = AlertEvent
        fields = ("at", "kind", "by", "note", "details")
        read_only_fields = fields


@extend_schema_serializer(component_name="WholeAlert")
class WholeAlertSerializer(AlertSerializer):
    evidence = serializers.DictField(help_text="What it was triggered by: values of the window, count, band, …")
    timeline = serializers.SerializerMethodField(help_text=f"What happened to it, the last {MOST_TOLD:,} lines.")

    class Meta(AlertSerializer.Meta):
        fields = (*AlertSerializer.Meta.fields, "evidence", "timeline")
        read_only_fields = fields

    @extend_schema_field(AlertEventSerializer(many=True))
    def get_timeline(self, alert: Alert) -> Any:
        latest = list(alert.events.order_by("-pk")[:MOST_TOLD])
        return AlertEventSerializer(latest[::-1], many=True).data


class AlertFilters(serializers.Serializer[Any]):
    """What alerts are chosen by, in the address of a list and in the body of a bulk verb."""

    status = ChoicesField(Status.values, required=False, help_text="In these states.")
    level = levels()
    device_id = text("Of this device.")
    rule_id = text("Of this rule.")
    metric_name = text("Of this metric.")
    device_group = text("Of the devices of this group.")
    owner = text("Who has it in hand.")
    incident = text("Of this incident, by its id.")
    retroactive = maybe("Those alone, or those not, whose measurements came late.")
    shadow = serializers.BooleanField(default=False, help_text="Those of shadow rules, instead of the others.")
    start_time = serializers.DateTimeField(
        required=False, default_timezone=UTC, help_text="Triggered from here on; without an offset in UTC."
    )
    end_time = serializers.DateTimeField(required=False, default_timezone=UTC, help_text="Triggered before here.")
    search = text("Words in the message, or in the name of the rule or the device.")


_LOOKUPS = {
    "status": "status__in",
    "level": "level__in",
    "device_id": "device__device_id",
    "rule_id": "rule__rule_id",
    "incident": "incident__incident_id",
    "start_time": "triggered_at__gte",
    "end_time": "triggered_at__lt",
}


def chosen(seen: Caller, filters: dict[str, Any]) -> AlertQuerySet:
    """The alerts that a caller sees and asks for, with what their shape needs."""
    found = Alert.objects.visible_to(seen).select_related("rule", "incident")
    for name, value in filters.items():
        if name == "search":
            words = Q(message__icontains=value) | Q(rule_name__icontains=value) | Q(device_name__icontains=value)
            found = found.filter(words)
        elif name == "device_group":
            groups = DeviceGroup.objects.visible_to(seen).filter(name=value)
            found = found.filter(device__in=Device.objects.in_groups(groups))
        else:
            found = found.filter(**{_LOOKUPS.get(name, name): value})
    return found
