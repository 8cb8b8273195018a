"""`GET /telemetry/history`: a metric over the last hours, or how many points there are by hour; by the same verbs as
everywhere else.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from drf_spectacular.utils import PolymorphicProxySerializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.answers import QueryAnswer
from metrics.api.parameters import IntervalField
from metrics.api.questions import about, query_shape
from metrics.models import NAME_LENGTH
from metrics.query.execute import execute_query
from metrics.query.query import Query
from metrics.statistics.histogram import HOURS
from metrics.statistics.inventory import service_statistics
from rest.caller import Caller
from rest.openapi import Answer, Tag, operation
from rest.permissions import caller

MOST_HOURS = 24 * 3650


class HistoryParameters(serializers.Serializer[Any]):
    metric_name = serializers.CharField(
        max_length=NAME_LENGTH,
        trim_whitespace=False,
        required=False,
        help_text="Left out: how many points of all metrics there are, by hour.",
    )
    device_id = serializers.CharField(
        max_length=NAME_LENGTH, trim_whitespace=False, required=False, help_text="Left out: of all devices, by device."
    )
    hours = serializers.IntegerField(min_value=1, max_value=MOST_HOURS, default=24, help_text="Until now.")
    aggregation = serializers.CharField(max_length=NAME_LENGTH, default="avg", help_text="As in a query.")
    interval = IntervalField(default="auto", help_text="Seconds of one value, or `auto`: about 300 values.")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if "metric_name" not in attributes:
            if "device_id" in attributes:
                raise serializers.ValidationError({"metric_name": "is needed with device_id"})
            if attributes["hours"] > HOURS:
                raise serializers.ValidationError({"hours": f"up to {HOURS} without metric_name"})
        return attributes

    def to_query(self, seen: Caller) -> Query:
        given = self.validated_data
        end = datetime.now(UTC) + timedelta(minutes=5)  # as far as a device's clock may be fast
        return Query(
            metrics=(given["metric_name"],),
            devices=(given["device_id"],) if "device_id" in given else None,
            groups=seen.narrowed(None),
            start=end - timedelta(hours=given["hours"], minutes=5),
            end=end,
            aggregation=given["aggregation"],
            interval=given["interval"],
        )


class PointsOfHour(Answer):
    hour = serializers.DateTimeField(help_text="When it begins.")
    points = serializers.IntegerField()


class HistoryOfPoints(Answer):
    data_by_hour = PointsOfHour(many=True)
    total = serializers.IntegerField()


def points_by_hour(seen: Caller, hours: int) -> dict[str, Any]:
    """Points of the devices that a caller sees, of each of the last hours by the clock."""
    found = service_statistics(seen)["data_by_hour"][-hours:]
    return {"data_by_hour": found, "total": sum(one["points"] for one in found)}


class HistoryView(APIView):
    def devices_asked(self, request: Request) -> list[str | None]:
        """What whoever asks must be allowed to read (rest.permissions.MayRead)."""
        return [request.query_params.get("device_id")]

    @operation(
        "get_history",
        "A metric over the last hours, or all points by hour",
        tag=Tag.QUERIES,
        description="Of a metric: aggregated in about 300 intervals, or in those that are asked for. Without one: how"
        " many points of the devices that the caller sees are of each of the last 24 hours.",
        query=HistoryParameters,
        answer=PolymorphicProxySerializer("HistoryAnswer", [QueryAnswer, HistoryOfPoints], None, many=False),
        errors=(422,),
        asked={"metric_name": "temperature", "device_id": "device_001", "hours": 24},
        answered=examples.ANSWER,
    )
    def get(self, request: Request) -> Response:
        given = HistoryParameters(data=request.query_params)
        given.is_valid(raise_exception=True)
        if "metric_name" not in given.validated_data:
            return Response(points_by_hour(caller(request), given.validated_data["hours"]))
        answer = execute_query(given.to_query(caller(request)))
        return Response(query_shape(answer) | about(answer, False))
