"""Latest points, metrics of a device, and ranges of a series."""

from datetime import timedelta

from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.fields import names_field
from metrics.api.latest_response import MAX_LOOKBACK, answer_latest, incomplete, latest_shape
from metrics.api.parameters import RangeParameters
from metrics.api.query_views import about, query_shape
from metrics.api.responses import (
    LatestValueSerializer,
    LatestValuesSerializer,
    QueryAnswerSerializer,
    RangeColumnsSerializer,
)
from metrics.query import latest
from metrics.query.execute import execute_query
from rest.fields import StrictSerializer
from rest.openapi import Tag, operation
from rest.permissions import caller

DEFAULT_LOOKBACK = 86400


class LatestParameters(StrictSerializer):
    lookback = serializers.IntegerField(
        min_value=1, max_value=MAX_LOOKBACK, default=DEFAULT_LOOKBACK, help_text="Seconds to look back."
    )


class LatestView(APIView):
    """PRD E3-US2: the newest point of a metric of a device."""

    @operation(
        "get_latest",
        "Get the latest value of a series",
        tag=Tag.QUERIES,
        description="Returns the newest point of one metric of one device, from the last 24 hours by default.",
        query=LatestParameters,
        response=LatestValueSerializer,
        errors=(404,),
        request_example={"lookback": 3600},
        response_example=examples.LATEST,
    )
    def get(self, request: Request, device_id: str, metric_name: str) -> Response:
        parameters = LatestParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        lookback = timedelta(seconds=parameters.validated_data["lookback"])
        return Response(answer_latest(caller(request), device_id, metric_name, lookback))


@extend_schema_serializer(component_name="Latest")
class LatestManyParameters(LatestParameters):
    devices = names_field("devices")
    metrics = names_field("metrics")
    groups = names_field("device groups")


class LatestManyView(APIView):
    """Newest points of many series."""

    @operation(
        "list_latest",
        "List the latest values of many series",
        tag=Tag.QUERIES,
        description="Returns the newest point of each series. Omitted devices, metrics or groups match all.",
        request=LatestManyParameters,
        response=LatestValuesSerializer,
        request_example={"devices": ["device_001"], "metrics": ["temperature"], "lookback": 3600},
        response_example={"series": [examples.LATEST]},
    )
    def post(self, request: Request) -> Response:
        serializer = LatestManyParameters(data=request.data)
        serializer.is_valid(raise_exception=True)
        parameters = serializer.validated_data
        lookback = timedelta(seconds=parameters["lookback"])
        devices, metrics, groups = (parameters[name] or None for name in ("devices", "metrics", "groups"))
        groups = caller(request).narrowed(groups)
        result = latest.read_latest_points(devices, metrics, lookback, groups=groups)
        return Response({"series": [latest_shape(point) for point in result.points]} | incomplete(result.damaged))


class DeviceMetricsView(APIView):
    """PRD E3-US3: names of the metrics of a device."""

    @operation(
        "list_device_metrics",
        "List the metrics of a device",
        tag=Tag.QUERIES,
        description="Returns the names of the metrics that the device has sent, sorted; an empty list for an unknown"
        " device.",
        response={"type": "array", "items": {"type": "string"}},
        errors=(404,),  # no path matches a name with a line break
        response_example=["humidity", "temperature"],
    )
    def get(self, request: Request, device_id: str) -> Response:
        return Response(latest.list_device_metrics(device_id, caller(request).narrowed(None)))


class RangeView(APIView):
    """PRD E3-US4: points of a series in a range, downsampled to `max_points` or aggregated."""

    @operation(
        "get_range",
        "Get the points of a series in a time range",
        tag=Tag.QUERIES,
        description="Returns raw or aggregated points of a named range up to now, or from `start_time` to `end_time`. A"
        " series with more than `max_points` points is downsampled. `columns` returns two arrays, for charts.",
        query=RangeParameters,
        response=PolymorphicProxySerializer(
            "RangeAnswer", [QueryAnswerSerializer, RangeColumnsSerializer], None, many=False
        ),
        errors=(404, 422),
        request_example={"time_range": "24h"},
        response_example=examples.RANGE,
    )
    def get(self, request: Request, device_id: str, metric_name: str) -> Response:
        parameters = RangeParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        result = execute_query(parameters.to_query(caller(request), device_id, metric_name))
        common_fields = about(result, parameters.validated_data["explain"])
        if not parameters.validated_data["columns"]:
            return Response(query_shape(result) | common_fields)
        times = [time / 1000 for group in result.series for time in group.times]
        values = [value for group in result.series for value in group.values]
        unit = result.series[0].unit if result.series else None
        return Response({"times": times, "values": values, "unit": unit} | common_fields)
