"""Serializers and filters of alerts."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from alerts.anomaly_feedback import feedback_of
from alerts.api.filters import EXACT_TEXT, ChoicesFilter
from alerts.models import Alert, AlertEvent, AnomalyFeedback, Level, Resolution, Status
from alerts.models.alerts import AlertQuerySet
from alerts.visibility import narrow_events
from metrics.models import Device, DeviceGroup
from rest.caller import Caller
from rest.filters import BooleanFilter, FilterSet, SearchFilter, TextFilter, TimeFilter
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
    severity = serializers.CharField(source="level", help_text="Same as `level`.")
    threshold_value = EvaluatedValueField(source="threshold", help_text="Threshold at that time.")
    value = EvaluatedValueField(help_text="Value that opened the alert: a number, or the text or boolean as sent.")
    worst_value = EvaluatedValueField(help_text="Value furthest beyond the threshold while the alert was open.")
    resolution = serializers.ChoiceField(
        ["", *Resolution.values], help_text="Why the alert was resolved; empty while it is open."
    )
    incident_id = serializers.CharField(source="incident.incident_id", default=None, allow_null=True)

    class Meta:
        model = Alert
        fields: tuple[str, ...] = (
            "alert_id", "rule_id", "rule_name", "rule_version", "device_id", "metric_name", "level", "severity",
            "status", "shadow", "retroactive", "value", "worst_value", "threshold_value", "message", "description",
            "runbook_url",
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


class AnomalyFeedbackSerializer(serializers.ModelSerializer[AnomalyFeedback]):
    class Meta:
        model = AnomalyFeedback
        fields = ("is_anomaly", "by", "at")
        read_only_fields = fields


@extend_schema_serializer(component_name="WholeAlert")
class WholeAlertSerializer(AlertSerializer):
    evidence = serializers.DictField(
        help_text="Data that opened the alert: values of the window, count, expected range, …"
    )
    timeline = serializers.SerializerMethodField(
        help_text=f"Events of the alert, at most the latest {MAX_TIMELINE_EVENTS:,}."
    )

    feedback = serializers.SerializerMethodField(
        help_text="For alerts of anomaly rules: whether a person called it an anomaly; null without feedback."
    )

    class Meta(AlertSerializer.Meta):
        fields = (*AlertSerializer.Meta.fields, "evidence", "timeline", "feedback")
        read_only_fields = fields

    @extend_schema_field(AnomalyFeedbackSerializer(allow_null=True))
    def get_feedback(self, alert: Alert) -> Any:
        feedback = feedback_of(alert)
        return None if feedback is None else AnomalyFeedbackSerializer(feedback).data

    @extend_schema_field(AlertEventSerializer(many=True))
    def get_timeline(self, alert: Alert) -> Any:
        latest = list(alert.events.order_by("-pk")[:MAX_TIMELINE_EVENTS])
        narrow_events(latest, alert, caller(self.context["request"]))
        return AlertEventSerializer(latest[::-1], many=True).data


class AlertFilters(FilterSet):
    """Filters of alerts, in the query string of the list and in the body of bulk actions."""

    status = ChoicesFilter(Status.values, help_text="Alert states.")
    level = ChoicesFilter(Level.values, help_text="Alert levels.")
    device_id = TextFilter("device__device_id", help_text="Device ID.", **EXACT_TEXT)
    rule_id = TextFilter("rule__rule_id", help_text="Rule ID.", **EXACT_TEXT)
    metric_name = TextFilter(help_text="Metric name.", **EXACT_TEXT)
    device_group = TextFilter(method="filter_device_group", help_text="Name of a device group.", **EXACT_TEXT)
    owner = TextFilter(help_text="Owner: the user name that the alert is assigned to.", **EXACT_TEXT)
    incident = TextFilter("incident__incident_id", help_text="Incident ID.", **EXACT_TEXT)
    retroactive = BooleanFilter(help_text="Whether the alert was opened for late data.")
    shadow = BooleanFilter(default=False, help_text="Alerts of shadow rules instead of live rules.")
    start_time = TimeFilter("triggered_at", "gte", help_text="Triggered at or after this time; UTC without an offset.")
    end_time = TimeFilter("triggered_at", "lt", help_text="Triggered before this time; UTC without an offset.")
    search = SearchFilter(
        "message__icontains",
        "rule_name__icontains",
        "device_name__icontains",
        help_text="Text in the message, rule name or device ID.",
        **EXACT_TEXT,
    )

    def filter_device_group(self, alerts: QuerySet[Alert], _: str, name: str) -> QuerySet[Alert]:
        groups = DeviceGroup.objects.visible_to(caller(self.request)).filter(name=name)
        return alerts.filter(device__in=Device.objects.in_groups(groups))


def visible_alerts(viewer: Caller) -> AlertQuerySet:
    """Return the alerts of devices that a caller sees, with the related rows that AlertSerializer reads."""
    alerts: AlertQuerySet = Alert.objects.visible_to(viewer).select_related("rule", "incident")
    return alerts
