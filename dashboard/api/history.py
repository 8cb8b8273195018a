"""`GET /telemetry/history`: a metric over the last hours, or the number of points by hour."""

from datetime import UTC, datetime, timedelta
from typing import Any

from drf_spectacular.utils import PolymorphicProxySerializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.parameters import IntervalField
from metrics.api.query_views import about, query_shape
from metrics.api.responses import QueryAnswerSerializer
from metrics.models import NAME_LENGTH
from metrics.query.execute import execute_query
from metrics.query.query import Query
from metrics.statistics.histogram import HOURS
from metrics.statistics.inventory import service_statistics
from rest.caller import Caller
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.responses import ResponseSerializer

MAX_HOURS = 24 * 3650


class HistoryParameters(serializers.Serializer[Any]):
    metric_name = serializers.CharField(
        max_length=NAME_LENGTH,
        trim_whitespace=False,
        required=False,
        help_text="Without it, the number of points of all metrics by hour.",
    )
    device_id = serializers.CharField(
        max_length=NAME_LENGTH,
        trim_whitespace=False,
        required=False,
        help_text="Without it, all devices, grouped by device.",
    )
    hours = serializers.IntegerField(
        min_value=1, max_value=MAX_HOURS, default=24, help_text="Length of the time range, which ends now."
    )
    aggregation = serializers.CharField(max_length=NAME_LENGTH, default="avg", help_text="As in a query.")
    interval = IntervalField(default="auto", help_text="Seconds of one time bucket, or `auto`: about 300 buckets.")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if "metric_name" not in attributes:
            if "device_id" in attributes:
                raise serializers.ValidationError({"metric_name": "required with device_id"})
            if attributes["hours"] > HOURS:
                raise serializers.ValidationError({"hours": f"must be at most {HOURS} without metric_name"})
        return attributes

    def query(self, reader: Caller) -> Query:
        """Return the query for the devices that a caller sees."""
        parameters = self.validated_data
        end = datetime.now(UTC) + timedelta(minutes=5)  # a device's clock may be ahead
        return Query(
            metrics=(parameters["metric_name"],),
            devices=(parameters["device_id"],) if "device_id" in parameters else None,
            groups=reader.narrowed(None),
            start=end - timedelta(hours=parameters["hours"], minutes=5),
            end=end,
            aggregation=parameters["aggregation"],
            interval=parameters["interval"],
        )


class PointsOfHour(ResponseSerializer):
    hour = serializers.DateTimeField(help_text="Start of the hour.")
    points = serializers.IntegerField()


class HistoryOfPoints(ResponseSerializer):
    data_by_hour = PointsOfHour(many=True)
    total = serializers.IntegerField()


def points_by_hour(reader: Caller, hours: int) -> dict[str, Any]:
    """Return the number of points of each of the last hours, of the devices that a caller sees."""
    by_hour = service_statistics(reader)["data_by_hour"][-hours:]
    return {"data_by_hour": by_hour, "total": sum(hour["points"] for hour in by_hour)}


class HistoryView(APIView):
    def requested_devices(self, request: Request) -> list[str | None]:
        """Return the devices that the caller must be allowed to read (rest.permissions.MayRead)."""
        return [request.query_params.get("device_id")]

    @operation(
        "get_history",
        "A metric over the last hours, or the number of points by hour",
        tag=Tag.QUERIES,
        description="With a metric: its values, aggregated in about 300 time buckets or in those of `interval`."
        " Without: the number of points of each of the last 24 hours, of the devices that the caller sees.",
        query=HistoryParameters,
        response=PolymorphicProxySerializer(
            "HistoryAnswer", [QueryAnswerSerializer, HistoryOfPoints], None, many=False
        ),
        errors=(422,),
        request_example={"metric_name": "temperature", "device_id": "device_001", "hours": 24},
        response_example=examples.ANSWER,
    )
    def get(self, request: Request) -> Response:
        parameters = HistoryParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        if "metric_name" not in parameters.validated_data:
            return Response(points_by_hour(caller(request), parameters.validated_data["hours"]))
        answer = execute_query(parameters.query(caller(request)))
        return Response(query_shape(answer) | about(answer, False))
