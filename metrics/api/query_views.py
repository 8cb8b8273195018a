"""Queries: points or aggregates of many devices and metrics."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.parameters import AggregatedParameters, ExplainParameter, QueryParameters
from metrics.api.responses import AggregatedAnswerSerializer, QueryAnswerSerializer
from metrics.query.execute import execute_query
from metrics.query.query import Query
from metrics.query.result import QueryResult, ResultSeries
from metrics.storage.format.contexts import read_context
from metrics.storage.series_registry import current_registry
from metrics.storage.units import to_datetime
from rest.openapi import Tag, operation
from rest.permissions import caller


class QueryView(APIView):
    """PRD E3-US1: raw or aggregated points of devices and metrics in a time range."""

    def requested_devices(self, request: Request) -> list[str | None]:
        devices = request.data.get("devices") if isinstance(request.data, dict) else None
        named = isinstance(devices, list) and all(isinstance(device, str) for device in devices)
        return list(devices) if named and devices else [None]

    @operation(
        "query_points",
        "Query points",
        tag=Tag.QUERIES,
        description="Returns raw points of many devices and metrics or, with `aggregation` and `interval`, one value"
        " per"
        " time bucket of each series, device, group or tag. A page has at most 10,000 points.",
        query=ExplainParameter,
        request=QueryParameters,
        response=QueryAnswerSerializer,
        errors=(422,),
        request_example=examples.QUESTION,
        response_example=examples.ANSWER,
    )
    def post(self, request: Request) -> Response:
        in_url, parameters = ExplainParameter(data=request.query_params), QueryParameters(data=request.data)
        in_url.is_valid(raise_exception=True)
        parameters.is_valid(raise_exception=True)
        result = execute_query(parameters.to_query(caller(request)))
        explain = in_url.validated_data["explain"] or parameters.validated_data["explain"]
        return Response(query_shape(result) | about(result, explain))


class AggregatedView(APIView):
    """PRD E3-US5: one metric of one device, or of all devices together."""

    def requested_devices(self, request: Request) -> list[str | None]:
        return [request.query_params.get("device_id")]

    @operation(
        "get_aggregated",
        "Aggregate a metric",
        tag=Tag.QUERIES,
        description="Aggregates one metric over time buckets: of one device, of device groups, or of all devices.",
        query=AggregatedParameters,
        response=AggregatedAnswerSerializer,
        errors=(422,),
        request_example=examples.AGGREGATED_QUESTION,
        response_example=examples.AGGREGATED,
    )
    def get(self, request: Request) -> Response:
        parameters = AggregatedParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        query = parameters.to_query(caller(request))
        result = execute_query(query)
        points = [
            {"timestamp": to_datetime(time), "value": value, "count": count}
            for group in result.series
            for time, value, count in zip(group.times, group.values, group.counts or (), strict=True)
        ]
        body = {
            "metric_name": query.metrics[0],
            "device_id": query.devices[0] if query.devices else None,
            "aggregation_type": query.aggregation,
            "interval": result.interval,
            "unit": result.series[0].unit if result.series else None,
            "start_time": query.start,
            "end_time": query.end,
            "data_points": points,
            "count": len(points),
        }
        return Response(body | about(result, parameters.validated_data["explain"]))


def query_shape(result: QueryResult) -> dict[str, Any]:
    """Return the response of PRD E3-US1; top-level names are of the first series, `series` has all of them."""
    query = result.query
    several = len({series.label[0] for series in result.series}) > 1
    by_group = [_points(series, several) for series in result.series]
    device, metric, _ = result.series[0].label if result.series else (None, None, None)
    if not result.series:
        device = query.devices[0] if query.devices else None
        metric = query.metrics[0]
    body: dict[str, Any] = {
        "device_id": device,
        "metric_name": metric,
        "data_points": [point for points in by_group for point in points],
        "count": result.count,
        "aggregation": query.aggregation,
        "interval": result.interval,
        "start_time": query.start,
        "end_time": query.end,
    }
    if len(result.series) > 1 or query.group_tag is not None or query.group_by == "group":
        body["series"] = [
            _named(series, query) | {"unit": series.unit, "data_points": points, "count": len(points)}
            for series, points in zip(result.series, by_group, strict=True)
        ]
    return body


def _named(series: ResultSeries, query: Query) -> dict[str, Any]:
    device, metric, value = series.label
    names: dict[str, Any] = {"device_id": device, "metric_name": metric}
    if query.group_by == "group":
        return names | {"group": value}
    return names if query.group_tag is None else names | {"tags": {query.group_tag: value}}


def _points(series: ResultSeries, with_device: bool) -> list[dict[str, Any]]:
    device, metric, _ = series.label
    names: dict[str, Any] = {"metric_name": metric} | ({"device_id": device} if with_device else {})
    if series.counts is not None:
        return [
            {"timestamp": to_datetime(time), **names, "value": value, "unit": series.unit, "count": count}
            for time, value, count in zip(series.times, series.values, series.counts, strict=True)
        ]
    contexts: dict[bytes, dict[str, Any]] = {}
    points = []
    for time, value, entry in zip(series.times, series.values, series.contexts or (), strict=True):
        if entry not in contexts:
            unit, tags, metadata = read_context(entry)
            unit = unit or current_registry().unit(metric or "")
            contexts[entry] = {"unit": unit, "tags": tags, "metadata": metadata}
        points.append({"timestamp": to_datetime(time), **names, "value": value, **contexts[entry]})
    return points


def about(result: QueryResult, explain: bool) -> dict[str, Any]:
    """Return the fields of every response: next page, damaged data and statistics of the read."""
    body: dict[str, Any] = {"truncated": result.next_cursor is not None, "next_cursor": result.next_cursor}
    if result.incomplete:
        body["incomplete"] = result.incomplete
    return body | ({"explain": result.read} if explain else {})
