"""`GET /telemetry/history`: a metric over the last hours, or the number of points by hour."""

from datetime import UTC, timedelta
from typing import Any

from drf_spectacular.utils import PolymorphicProxySerializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.fields import IntervalField, NamesField
from metrics.api.parameters import LIST, PageParameters, aggregation_field, page_fields
from metrics.api.query_views import about, query_shape
from metrics.api.responses import QueryAnswerSerializer
from metrics.models import NAME_LENGTH
from metrics.query.execute import execute_query
from metrics.query.query import Query, resolve_range
from metrics.statistics.histogram import HOURS
from metrics.statistics.inventory import service_statistics
from rest.caller import Caller
from rest.errors import InvalidField
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.responses import ResponseSerializer

MAX_HOURS = 24 * 3650


class HistoryParameters(PageParameters):
    metric_name = serializers.CharField(
        max_length=NAME_LENGTH,
        trim_whitespace=False,
        required=False,
        help_text="One metric. Without it and `metrics`, the number of points of all metrics by hour.",
    )
    metrics = NamesField(required=False, help_text=f"Metric names, {LIST}")
    device_id = serializers.CharField(
        max_length=NAME_LENGTH,
        trim_whitespace=False,
        required=False,
        help_text="One device. Without it and `devices`, all devices, each as a series of its own.",
    )
    devices = NamesField(required=False, help_text=f"Device IDs, {LIST}")
    hours = serializers.IntegerField(
        min_value=1, max_value=MAX_HOURS, default=24, help_text="Length of the time range before `end_time` or now."
    )
    start_time = serializers.DateTimeField(
        default=None, default_timezone=UTC, help_text="Start of the range, inclusive, instead of `hours`."
    )
    end_time = serializers.DateTimeField(
        default=None, default_timezone=UTC, help_text="End of the range, exclusive; 5 minutes ahead of now by default."
    )
    aggregation = aggregation_field(default="avg", help_text="As in a query.")
    interval = IntervalField(
        default="auto", help_text="Seconds of a time bucket; `auto`: about 300 buckets; or `range`: a single one."
    )

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        for single, several in (("metric_name", "metrics"), ("device_id", "devices")):
            if single in attributes:
                if several in attributes:
                    raise InvalidField(several, f"cannot be combined with {single}")
                attributes[several] = (attributes[single],)
        if "metrics" in attributes:
            return attributes
        for name in ("device_id", "devices", "start_time", "end_time"):
            if attributes.get(name) is not None:
                raise InvalidField("metric_name", f"is required with {name}, or metrics")
        if attributes["hours"] > HOURS:
            raise InvalidField("hours", f"must be at most {HOURS} without metric_name")
        return attributes

    def query(self, reader: Caller) -> Query:
        """Return the query for the devices that a caller sees."""
        parameters = self.validated_data
        length = timedelta(hours=parameters["hours"])
        times = (parameters["start_time"], parameters["end_time"])
        start, end = resolve_range(*times, length, parameters["cursor"])
        return Query(
            metrics=parameters["metrics"],
            devices=parameters.get("devices"),
            groups=reader.narrowed(None),
            start=start,
            end=end,
            aggregation=parameters["aggregation"],
            **page_fields(parameters),
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
        return list(_parameters(request).validated_data.get("devices", (None,)))

    @operation(
        "get_history",
        "A metric over the last hours, or the number of points by hour",
        tag=Tag.QUERIES,
        description="With metrics: their values by device, aggregated in about 300 time buckets or in those of"
        " `interval`. Without: the number of points of each of the last 24 hours, of the devices that the caller sees.",
        query=HistoryParameters,
        response=PolymorphicProxySerializer(
            "HistoryAnswer", [QueryAnswerSerializer, HistoryOfPoints], None, many=False
        ),
        errors=(422,),
        request_example={"metric_name": "temperature", "device_id": "device_001", "hours": 24},
        response_example=examples.ANSWER,
    )
    def get(self, request: Request) -> Response:
        parameters = _parameters(request)
        if "metrics" not in parameters.validated_data:
            return Response(points_by_hour(caller(request), parameters.validated_data["hours"]))
        answer = execute_query(parameters.query(caller(request)))
        return Response(query_shape(answer) | about(answer, parameters.validated_data["explain"]))


def _parameters(request: Request) -> HistoryParameters:
    parameters = HistoryParameters(data=request.query_params)
    parameters.is_valid(raise_exception=True)
    return parameters
