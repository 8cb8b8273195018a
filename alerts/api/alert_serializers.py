"""Serializers and filters of alerts."""

from datetime import UTC
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from alerts.api.filters import ChoicesField, levels_filter
from alerts.models import Alert, AlertEvent, Resolution, Status
from alerts.models.alerts import AlertQuerySet
from metrics.models import Device, DeviceGroup
from rest.caller import Caller
from rest.filters import FilterSerializer, boolean_filter, text_filter
from rest.permissions import caller

MAX_TIMELINE_EVENTS = 1000
ANY_VALUE = {"description": "Number, text, boolean or null."}


@extend_schema_field(ANY_VALUE)
class EvaluatedValueField(serializers.JSONField):
    """A value as the rule evaluated it."""


@extend_schema_serializer(component_name="Alert")
class AlertSerializer(serializers.ModelSerializer[Alert]):
    rule_id = serializers.CharField(
        source="rule.rule_id", default=None, allow_null=True, help_text="Null if the rule was deleted."
    )
    device_id = serializers.CharField(source="device_name")
    threshold_value = EvaluatedValueField(source="threshold", help_text="Threshold at that time.")
    value = EvaluatedValueField(help_text="Value that opened the alert.")
    worst_value = EvaluatedValueField(help_text="Value furthest beyond the threshold while the alert was open.")
    resolution = serializers.ChoiceField(
        ["", *Resolution.values], help_text="Why the alert was resolved; empty while it is open."
    )
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
    evidence = serializers.DictField(
        help_text="Data that opened the alert: values of the window, count, expected range, …"
    )
    timeline = serializers.SerializerMethodField(
        help_text=f"Events of the alert, at most the latest {MAX_TIMELINE_EVENTS:,}."
    )

    class Meta(AlertSerializer.Meta):
        fields = (*AlertSerializer.Meta.fields, "evidence", "timeline")
        read_only_fields = fields

    @extend_schema_field(AlertEventSerializer(many=True))
    def get_timeline(self, alert: Alert) -> Any:
        latest = list(alert.events.order_by("-pk")[:MAX_TIMELINE_EVENTS])
        return AlertEventSerializer(latest[::-1], many=True).data


class AlertFilterSerializer(FilterSerializer):
    """Filters of alerts, in the query string of the list and in the body of bulk actions."""

    status = ChoicesField(Status.values, required=False, help_text="Alert states.")
    level = levels_filter()
    device_id = text_filter("Device ID.")
    rule_id = text_filter("Rule ID.")
    metric_name = text_filter("Metric name.")
    device_group = text_filter("Name of a device group.")
    owner = text_filter("Person to whom the alert is assigned.")
    incident = text_filter("Incident ID.")
    retroactive = boolean_filter("Whether the alert was opened for late data.")
    shadow = serializers.BooleanField(default=False, help_text="Alerts of shadow rules instead of live rules.")
    start_time = serializers.DateTimeField(
        required=False, default_timezone=UTC, help_text="Triggered at or after this time; UTC without an offset."
    )
    end_time = serializers.DateTimeField(
        required=False, default_timezone=UTC, help_text="Triggered before this time; UTC without an offset."
    )
    search = text_filter("Text in the message, rule name or device ID.")

    lookups = {
        "status": "status__in",
        "level": "level__in",
        "device_id": "device__device_id",
        "rule_id": "rule__rule_id",
        "incident": "incident__incident_id",
        "start_time": "triggered_at__gte",
        "end_time": "triggered_at__lt",
    }
    search_lookups = ("message__icontains", "rule_name__icontains", "device_name__icontains")

    def filter_device_group(self, alerts: QuerySet[Alert], name: str) -> QuerySet[Alert]:
        groups = DeviceGroup.objects.visible_to(caller(self.context["request"])).filter(name=name)
        return alerts.filter(device__in=Device.objects.in_groups(groups))


def visible_alerts(viewer: Caller) -> AlertQuerySet:
    """Return the alerts of devices that a caller sees, with the related rows that AlertSerializer reads."""
    alerts: AlertQuerySet = Alert.objects.visible_to(viewer).select_related("rule", "incident")
    return alerts
