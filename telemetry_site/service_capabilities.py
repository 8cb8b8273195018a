"""The limits, types, formats and protocols of the service, for clients."""

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.json_endpoints import MAX_BODY_SIZE
from ingest.wire.compression import CODINGS
from ingest.wire.point_bounds import MAX_CLOCK_AHEAD
from ingest.wire.telemetry_json import MAX_BATCH_POINTS, MAX_BULK_POINTS
from metrics.api.parameters import MAX_NAMES
from metrics.export.formats import FORMATS
from metrics.models import LONGEST_RETENTION_DAYS, NAME_LENGTH, DataType, MetricType
from metrics.query.accumulators import ACCEPTED_AGGREGATIONS, ACCUMULATORS
from metrics.query.latest import TIME_RANGES
from metrics.query.query import FILLS, MAX_POINTS
from metrics.storage.merge.retention_policies import DEFAULT_RETENTION_DAYS
from metrics.storage.units import SECOND
from rest.openapi import Tag, operation
from rest.pagination import MAX_LIMIT
from rest.responses import ResponseSerializer

LIMITS = {
    "points_of_a_batch": MAX_BATCH_POINTS,
    "points_of_a_bulk_request": MAX_BULK_POINTS,
    "bytes_of_a_body": MAX_BODY_SIZE,
    "seconds_ahead_of_the_clock": MAX_CLOCK_AHEAD // SECOND,
    "points_of_an_answer": MAX_POINTS,
    "names_of_a_question": MAX_NAMES,
    "rows_of_a_page": MAX_LIMIT,
    "characters_of_a_name": NAME_LENGTH,
    "retention_days": LONGEST_RETENTION_DAYS,
    "default_retention_days": DEFAULT_RETENTION_DAYS,
}


class Limits(ResponseSerializer):
    def get_fields(self) -> dict[str, serializers.Field]:
        return {name: serializers.IntegerField() for name in LIMITS}


class Capabilities(ResponseSerializer):
    service = serializers.CharField()
    version = serializers.CharField()
    limits = Limits()
    data_types = serializers.ListField(child=serializers.CharField(), help_text="Types of values.")
    metric_types = serializers.ListField(child=serializers.CharField())
    aggregations = serializers.ListField(child=serializers.CharField(), help_text="Names, with the usual percentiles.")
    aggregations_accepted = serializers.CharField(help_text="Accepted aggregations in words, with all percentiles.")
    fills = serializers.ListField(child=serializers.CharField(), help_text="Values for time buckets without points.")
    time_ranges = serializers.ListField(child=serializers.CharField())
    export_formats = serializers.ListField(child=serializers.CharField())
    compressions = serializers.ListField(child=serializers.CharField(), help_text="Accepted Content-Encoding values.")
    protocols = serializers.ListField(child=serializers.CharField())


def capabilities() -> dict[str, object]:
    """Return the capabilities as the API answers them."""
    return {
        "service": "telemetry_service",
        "version": settings.VERSION,
        "limits": LIMITS,
        "data_types": DataType.values,
        "metric_types": MetricType.values,
        "aggregations": sorted([*ACCUMULATORS, "median", "p95", "p99"]),
        "aggregations_accepted": ACCEPTED_AGGREGATIONS,
        "fills": list(FILLS),
        "time_ranges": list(TIME_RANGES),
        "export_formats": list(FORMATS),
        "compressions": sorted(CODINGS),
        "protocols": ["http+json", "websocket"],
    }


class CapabilitiesView(APIView):
    @operation(
        "get_service_capabilities",
        "Get limits and capabilities",
        tag=Tag.STATISTICS,
        description="Limits, types, formats and protocols of this version.",
        response=Capabilities,
        response_example=capabilities(),
    )
    def get(self, request: Request) -> Response:
        return Response(capabilities())
