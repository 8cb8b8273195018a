"""What alerts do again and again."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.lists import Filtered, asked, text, told
from alerts.models import Pattern
from metrics.models import Device
from rest.caller import Caller
from rest.openapi import Tag, operation
from rest.pagination import PageParameters, page
from rest.permissions import caller


@extend_schema_field({"description": "What it is about: rules, devices, hours."})
class SubjectField(serializers.JSONField):
    """Whatever a kind of pattern is about."""


@extend_schema_serializer(component_name="Pattern")
class PatternSerializer(serializers.ModelSerializer[Pattern]):
    subject = SubjectField()
    devices = serializers.ListField(child=serializers.CharField(), help_text="Devices that it is about.")

    class Meta:
        model = Pattern
        fields = ("kind", "subject", "support", "confidence", "description", "devices", "found_at")
        read_only_fields = fields


class PatternParameters(PageParameters):
    kind = text("Of this kind.")


class Patterns(Filtered):
    patterns = PatternSerializer(many=True)


class PatternsView(APIView):
    @operation(
        "list_alert_patterns",
        "What alerts do again and again",
        tag=Tag.ALERTS,
        description="Alerts that flap, that follow one another, that come at the same hour, devices that fail together:"
        " the most certain first. People see those that are about devices all of which they see.",
        query=PatternParameters,
        answer=Patterns,
        asked={"kind": "flapping"},
        answered={"patterns": [examples.PATTERN], **examples.PAGE, "filters": {"kind": "flapping"}},
    )
    def get(self, request: Request) -> Response:
        filters = asked(PatternParameters(data=request.query_params))
        rows, counts = page(request, visible_patterns(caller(request)).filter(**filters))
        return Response(
            {"patterns": PatternSerializer(rows, many=True).data, **counts, "filters": told(request, filters)}
        )


def visible_patterns(seen: Caller) -> QuerySet[Pattern]:
    """Those that are about devices that somebody sees, and no other."""
    if seen.groups is None and seen.device_id is None:
        return Pattern.objects.all()
    named = {name for devices in Pattern.objects.values_list("devices", flat=True) for name in devices}
    visible = Device.objects.visible_to(seen).filter(device_id__in=named).values_list("device_id", flat=True)
    return Pattern.objects.filter(devices__contained_by=list(visible)).exclude(devices=[])
