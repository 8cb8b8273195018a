"""Patterns of alerts: flapping, sequences, recurring hours and co-occurrence."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from alerts.api import examples
from alerts.api.filters import EXACT_TEXT
from alerts.models import Pattern
from metrics.models import Device
from rest.caller import Caller
from rest.filters import FilterSet, TextFilter
from rest.openapi import Tag
from rest.resources import Action, Resource, describe
from rest.responses import page_example


@extend_schema_field({"description": "Rules, devices and hours of the pattern."})
class SubjectField(serializers.JSONField):
    """Subject of a pattern; its fields depend on the kind of the pattern."""


@extend_schema_serializer(component_name="Pattern")
class PatternSerializer(serializers.ModelSerializer[Pattern]):
    subject = SubjectField()
    devices = serializers.ListField(child=serializers.CharField(), help_text="IDs of the devices of the pattern.")

    class Meta:
        model = Pattern
        fields = ("kind", "subject", "support", "confidence", "description", "devices", "found_at")
        read_only_fields = fields


class PatternFilters(FilterSet):
    kind = TextFilter(help_text="Pattern kind.", **EXACT_TEXT)


@describe(
    Tag.ALERTS,
    list=Action(
        "list_alert_patterns",
        "List alert patterns",
        "Returns a page of patterns, highest confidence first: flapping alerts, sequences of alerts, alerts at the same"
        " hour, and devices that fail together. Callers see patterns of which they see every device.",
        request={"kind": "flapping"},
        response=page_example("patterns", examples.PATTERN, filters={"kind": "flapping"}),
    ),
)
class PatternResource(Resource):
    serializer_class = PatternSerializer
    filterset_class = PatternFilters
    rows_field = "patterns"
    echo_filters = "sent"

    def get_queryset(self) -> QuerySet[Pattern]:
        return visible_patterns(self.caller)


def visible_patterns(caller: Caller) -> QuerySet[Pattern]:
    """Return the patterns whose devices are all visible to a caller."""
    if caller.sees_all:
        return Pattern.objects.all()
    names = {name for devices in Pattern.objects.values_list("devices", flat=True) for name in devices}
    visible = Device.objects.visible_to(caller).filter(device_id__in=names).values_list("device_id", flat=True)
    return Pattern.objects.filter(devices__contained_by=list(visible)).exclude(devices=[])
