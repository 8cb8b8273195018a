"""PRD E6: how much there is of a device and of everything, and how the service fares. Thin views over an inventory."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.statistics.inventory import device_statistics, service_statistics
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.responses import ResponseSerializer

_LAST_DAY = "In the last 24 hours of the clock (UTC), of which one is running."


def _incomplete() -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(), required=False, help_text="What is not counted yet, where there is something."
    )


class MetricsByTypeSerializer(ResponseSerializer):
    gauge = serializers.IntegerField()
    counter = serializers.IntegerField()
    histogram = serializers.IntegerField()
    summary = serializers.IntegerField()


class TopMetricSerializer(ResponseSerializer):
    name = serializers.CharField()
    points = serializers.IntegerField()


class DeviceStatisticsSerializer(ResponseSerializer):
    device_id = serializers.CharField()
    total_metrics = serializers.IntegerField(help_text="Metrics that the device has sent.")
    active_metrics = serializers.IntegerField(help_text="Those of them with a point in the last 24 hours.")
    data_points_count = serializers.IntegerField(help_text="Points that are stored.")
    last_update = serializers.DateTimeField(allow_null=True, help_text="The time of the newest point.")
    storage_size = serializers.IntegerField(help_text="Bytes of these points, compressed: their share of their rows.")
    avg_frequency = serializers.FloatField(
        help_text="Points a minute, since the first of the last 24 hours in which there was one."
    )
    last_24h_points = serializers.IntegerField(help_text=_LAST_DAY)
    last_24h_alerts = serializers.IntegerField(help_text="Alerts that were triggered in the last 24 hours.")
    metrics_by_type = MetricsByTypeSerializer(help_text="A metric that nobody defined is a gauge.")
    top_metrics = TopMetricSerializer(many=True, help_text="The ten with the most points.")
    incomplete = _incomplete()


_DEVICE = {
    "device_id": "device_001",
    "total_metrics": 5,
    "active_metrics": 5,
    "data_points_count": 10000,
    "last_update": "2025-12-18T10:00:00Z",
    "storage_size": 11700,
    "avg_frequency": 1.0,
    "last_24h_points": 1440,
    "last_24h_alerts": 2,
    "metrics_by_type": {"gauge": 4, "counter": 1, "histogram": 0, "summary": 0},
    "top_metrics": [{"name": "temperature", "points": 3000}],
}


class DeviceStatisticsView(APIView):
    """PRD E6-US1."""

    @operation(
        "get_device_statistics",
        "Statistics of a device",
        tag=Tag.STATISTICS,
        description="Counts that are kept as points come and go. Of a device that is not known all of them are zero.",
        errors=(404,),  # a name with a line break is at no address
        answer=DeviceStatisticsSerializer,
        answered=_DEVICE,
    )
    def get(self, request: Request, device_id: str) -> Response:
        return Response(device_statistics(caller(request), device_id))


class HourOfDataSerializer(ResponseSerializer):
    hour = serializers.DateTimeField(help_text="Its beginning.")
    points = serializers.IntegerField(help_text="Points that were measured in it.")


class RequestsSerializer(ResponseSerializer):
    requests = serializers.IntegerField()
    avg_latency = serializers.FloatField(help_text="Milliseconds until the answer begins.")
    p95_latency = serializers.FloatField(
        allow_null=True, help_text="The same of the slowest of twenty; null: no request."
    )
    error_rate = serializers.FloatField(help_text="Share of answers of 500 and above.")


class RequestsByKindSerializer(ResponseSerializer):
    ingest = RequestsSerializer(help_text="Requests that bring measurements.")
    other = RequestsSerializer(help_text="All others, health checks left out.")


class ServiceStatisticsSerializer(ResponseSerializer):
    total_devices = serializers.IntegerField()
    active_devices = serializers.IntegerField(help_text=f"Heard of. {_LAST_DAY}")
    total_metrics = serializers.IntegerField(help_text="Metrics by name that these devices have sent.")
    total_data_points = serializers.IntegerField(help_text="Points that are stored.")
    points_per_second = serializers.FloatField(help_text="Stored, of the whole service, in the last five minutes.")
    avg_latency = serializers.FloatField(help_text="Milliseconds, of all requests of the last five minutes.")
    error_rate = serializers.FloatField(help_text="Share of them that failed: answers of 500 and above.")
    last_24h_points = serializers.IntegerField(help_text=_LAST_DAY)
    last_24h_alerts = serializers.IntegerField(help_text="Alerts that were triggered in the last 24 hours.")
    devices_by_type = serializers.DictField(
        child=serializers.IntegerField(), help_text="The fifty most frequent types; `unspecified`, `other`."
    )
    metrics_by_type = MetricsByTypeSerializer(help_text="A metric that nobody defined is a gauge.")
    data_by_hour = HourOfDataSerializer(many=True, help_text="The last 24 hours of the clock, oldest first.")
    requests = RequestsByKindSerializer(help_text="Of the last five minutes.")
    incomplete = _incomplete()


_FARES = {"requests": 3000, "avg_latency": 3.1, "p95_latency": 7.9, "error_rate": 0.0}
_SERVICE = {
    "total_devices": 120,
    "active_devices": 118,
    "total_metrics": 14,
    "total_data_points": 90_000_000,
    "points_per_second": 210.5,
    "avg_latency": 3.4,
    "error_rate": 0.0,
    "last_24h_points": 18_144_000,
    "last_24h_alerts": 3,
    "devices_by_type": {"sensor": 100, "gateway": 20},
    "metrics_by_type": {"gauge": 10, "counter": 4, "histogram": 0, "summary": 0},
    "data_by_hour": [{"hour": "2025-12-18T10:00:00Z", "points": 756_000}],
    "requests": {"ingest": _FARES, "other": _FARES},
}


class ServiceStatisticsView(APIView):
    """PRD E6-US2."""

    @operation(
        "get_service_statistics",
        "Statistics of the service",
        tag=Tag.STATISTICS,
        description="Of the devices that whoever asks may see; rates, latencies and errors are those of the whole"
        " service.",
        answer=ServiceStatisticsSerializer,
        answered=_SERVICE,
    )
    def get(self, request: Request) -> Response:
        return Response(service_statistics(caller(request)))
