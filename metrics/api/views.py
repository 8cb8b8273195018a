"""Reading measurements: thin views over metrics.query."""

from datetime import timedelta
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics import query
from metrics.api.parameters import RangeParameters, names_field
from metrics.api.permissions import caller
from metrics.api.questions import about, query_shape
from metrics.api.shapes import LONGEST_LOOKBACK, incomplete, latest_shape, nothing_found
from metrics.questions.asking import ask

DEFAULT_LOOKBACK = 86400


class LatestParameters(serializers.Serializer[Any]):
    lookback = serializers.IntegerField(min_value=1, max_value=LONGEST_LOOKBACK, default=DEFAULT_LOOKBACK)


class LatestView(APIView):
    """PRD E3-US2: the newest point of a metric of a device."""

    def get(self, request: Request, device_id: str, metric_name: str) -> Response:
        given = LatestParameters(data=request.query_params)
        given.is_valid(raise_exception=True)
        lookback = timedelta(seconds=given.validated_data["lookback"])
        found = query.newest_points([device_id], [metric_name], lookback, groups=caller(request).narrowed(None))
        if not found.points:
            raise NotFound(nothing_found(device_id, metric_name, lookback, found.damaged))
        return Response(latest_shape(found.points[0]) | incomplete(found.damaged))


class LatestManyParameters(LatestParameters):
    devices = names_field()
    metrics = names_field()
    groups = names_field()


class LatestManyView(APIView):
    """The newest points of many series in one call."""

    def post(self, request: Request) -> Response:
        given = LatestManyParameters(data=request.data)
        given.is_valid(raise_exception=True)
        wanted = given.validated_data
        lookback = timedelta(seconds=wanted["lookback"])
        groups = caller(request).narrowed(wanted["groups"])
        found = query.newest_points(wanted["devices"], wanted["metrics"], lookback, groups=groups)
        return Response({"series": [latest_shape(point) for point in found.points]} | incomplete(found.damaged))


class DeviceMetricsView(APIView):
    """PRD E3-US3: which metrics a device has sent."""

    def get(self, request: Request, device_id: str) -> Response:
        return Response(query.device_metrics(device_id, caller(request).narrowed(None)))


class RangeView(APIView):
    """PRD E3-US4: a metric of a device over a range, thinned to `max_points` where it has more; or aggregated."""

    def get(self, request: Request, device_id: str, metric_name: str) -> Response:
        given = RangeParameters(data=request.query_params)
        given.is_valid(raise_exception=True)
        answer = ask(given.question(caller(request), device_id, metric_name))
        told = about(answer, given.validated_data["explain"])
        if not given.validated_data["columns"]:
            return Response(query_shape(answer) | told)
        times = [time / 1000 for group in answer.groups for time in group.times]
        values = [value for group in answer.groups for value in group.values]
        unit = answer.groups[0].unit if answer.groups else None
        return Response({"times": times, "values": values, "unit": unit} | told)
