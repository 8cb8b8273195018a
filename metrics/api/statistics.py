"""PRD E6: statistics of a device and of the whole service."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.statistics.inventory import device_statistics, service_statistics
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.responses import ResponseSerializer

_LAST_DAY = "In the last 24 clock hours (UTC), including the current one."


def _incomplete() -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="Data that is not counted yet; omitted if there is none.",
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
    total_metrics = serializers.IntegerField(help_text="Number of metrics of the device.")
    active_metrics = serializers.IntegerField(help_text="Metrics with a point in the last 24 hours.")
    data_points_count = serializers.IntegerField(help_text="Number of stored points.")
    last_update = serializers.DateTimeField(allow_null=True, help_text="Time of the newest point.")
    storage_size = serializers.IntegerField(help_text="Compressed size of these points in bytes.")
    avg_frequency = serializers.FloatField(help_text="Points per minute, since the first point of the last 24 hours.")
    last_24h_points = serializers.IntegerField(help_text=_LAST_DAY)
    last_24h_alerts = serializers.IntegerField(help_text="Alerts triggered in the last 24 hours.")
    metrics_by_type = MetricsByTypeSerializer(
        help_text="Number of metrics by type; metrics without a definition count as gauge."
    )
    top_metrics = TopMetricSerializer(many=True, help_text="The ten metrics with the most points.")
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
        "Get statistics of a device",
        tag=Tag.STATISTICS,
        description="Returns counts of points, metrics and alerts. For an unknown device all counts are zero.",
        errors=(404,),  # no path matches a name with a line break
        response=DeviceStatisticsSerializer,
        response_example=_DEVICE,
    )
    def get(self, request: Request, device_id: str) -> Response:
        return Response(device_statistics(caller(request), device_id))


class HourOfDataSerializer(ResponseSerializer):
    hour = serializers.DateTimeField(help_text="Start of the hour.")
    points = serializers.IntegerField(help_text="Points with a time in this hour.")


class RequestsSerializer(ResponseSerializer):
    requests = serializers.IntegerField()
    avg_latency = serializers.FloatField(help_text="Milliseconds until the response starts.")
    p95_latency = serializers.FloatField(
        allow_null=True, help_text="95th percentile in milliseconds; null without requests."
    )
    error_rate = serializers.FloatField(help_text="Share of responses with status 500 or above.")


class RequestsByKindSerializer(ResponseSerializer):
    ingest = RequestsSerializer(help_text="Requests that send points.")
    other = RequestsSerializer(help_text="All other requests except health checks.")


class ServiceStatisticsSerializer(ResponseSerializer):
    total_devices = serializers.IntegerField()
    active_devices = serializers.IntegerField(help_text=f"Devices with points. {_LAST_DAY}")
    total_metrics = serializers.IntegerField(help_text="Number of metric names of these devices.")
    total_data_points = serializers.IntegerField(help_text="Number of stored points.")
    points_per_second = serializers.FloatField(
        help_text="Stored points per second of the whole service, in the last five minutes."
    )
    avg_latency = serializers.FloatField(
        help_text="Average latency of all requests of the last five minutes, in milliseconds."
    )
    error_rate = serializers.FloatField(
        help_text="Share of responses with status 500 or above, in the last five minutes."
    )
    last_24h_points = serializers.IntegerField(help_text=_LAST_DAY)
    last_24h_alerts = serializers.IntegerField(help_text="Alerts triggered in the last 24 hours.")
    devices_by_type = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="Devices by type: the 50 most frequent types, `unspecified` and `other`.",
    )
    metrics_by_type = MetricsByTypeSerializer(
        help_text="Number of metrics by type; metrics without a definition count as gauge."
    )
    data_by_hour = HourOfDataSerializer(many=True, help_text="Points by hour: the last 24 clock hours, oldest first.")
    requests = RequestsByKindSerializer(help_text="Requests of the last five minutes.")
    incomplete = _incomplete()


_REQUESTS = {"requests": 3000, "avg_latency": 3.1, "p95_latency": 7.9, "error_rate": 0.0}
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
    "requests": {"ingest": _REQUESTS, "other": _REQUESTS},
}


class ServiceStatisticsView(APIView):
    """PRD E6-US2."""

    @operation(
        "get_service_statistics",
        "Get statistics of the service",
        tag=Tag.STATISTICS,
        description="Counts are of the devices the caller sees; rates, latencies and errors are of the whole service.",
        response=ServiceStatisticsSerializer,
        response_example=_SERVICE,
    )
    def get(self, request: Request) -> Response:
        return Response(service_statistics(caller(request)))
