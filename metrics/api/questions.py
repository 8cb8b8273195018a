"""Questions by HTTP: thin views over metrics.questions."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.answers import AggregatedAnswer, QueryAnswer
from metrics.api.parameters import AggregatedParameters, QueryParameters
from metrics.query.execute import ask
from metrics.query.latest import moment
from metrics.query.query import Question
from metrics.query.result import Answer, Group
from metrics.storage.format.contexts import read_context
from metrics.storage.series_registry import cached_registry
from rest.openapi import Tag, operation
from rest.permissions import caller


class QueryView(APIView):
    """PRD E3-US1: points of devices × metrics × a range, or what they amount to."""

    def devices_asked(self, request: Request) -> list[str | None]:
        """What whoever asks must be allowed to read (ingest.authentication.MayRead)."""
        devices = request.data.get("devices") if isinstance(request.data, dict) else None
        named = isinstance(devices, list) and all(isinstance(device, str) for device in devices)
        return list(devices) if named and devices else [None]

    @operation(
        "query_points",
        "Points of many devices and metrics, or what they amount to",
        tag=Tag.QUERIES,
        description="At most 10,000 points at once; `next_cursor` leads on. With `aggregation` and `interval`, one"
        " value for each interval of each series, device, group or tag.",
        request=QueryParameters,
        answer=QueryAnswer,
        errors=(422,),
        asked=examples.QUESTION,
        answered=examples.ANSWER,
    )
    def post(self, request: Request) -> Response:
        explain = request.query_params.get("explain")
        data = request.data | {"explain": explain} if explain and isinstance(request.data, dict) else request.data
        given = QueryParameters(data=data)
        given.is_valid(raise_exception=True)
        answer = ask(given.question(caller(request)))
        return Response(query_shape(answer) | about(answer, given.validated_data["explain"]))


class AggregatedView(APIView):
    """PRD E3-US5: one metric, pooled over all devices or of a single one."""

    def devices_asked(self, request: Request) -> list[str | None]:
        return [request.query_params.get("device_id")]

    @operation(
        "get_aggregated",
        "A metric aggregated over intervals",
        tag=Tag.QUERIES,
        description="Of one device, of the devices of some groups, or pooled over all of them.",
        query=AggregatedParameters,
        answer=AggregatedAnswer,
        errors=(422,),
        asked=examples.AGGREGATED_QUESTION,
        answered=examples.AGGREGATED,
    )
    def get(self, request: Request) -> Response:
        given = AggregatedParameters(data=request.query_params)
        given.is_valid(raise_exception=True)
        question = given.question(caller(request))
        answer = ask(question)
        points = [
            {"timestamp": moment(time), "value": value, "count": count}
            for group in answer.groups
            for time, value, count in zip(group.times, group.values, group.counts or (), strict=True)
        ]
        body = {
            "metric_name": question.metrics[0],
            "device_id": question.devices[0] if question.devices else None,
            "aggregation_type": question.aggregation,
            "interval": answer.interval,
            "unit": answer.groups[0].unit if answer.groups else None,
            "start_time": question.start,
            "end_time": question.end,
            "data_points": points,
            "count": len(points),
        }
        return Response(body | about(answer, given.validated_data["explain"]))


def query_shape(answer: Answer) -> dict[str, Any]:
    """PRD E3-US1. Names on top are those of the first series; where there are several, `series` tells them apart."""
    question = answer.question
    several = len({group.label[0] for group in answer.groups}) > 1
    by_group = [_points(group, several) for group in answer.groups]
    device, metric, _ = answer.groups[0].label if answer.groups else (None, None, None)
    if not answer.groups:
        device = question.devices[0] if question.devices else None
        metric = question.metrics[0]
    body: dict[str, Any] = {
        "device_id": device,
        "metric_name": metric,
        "data_points": [point for points in by_group for point in points],
        "count": answer.count,
        "aggregation": question.aggregation,
        "interval": answer.interval,
        "start_time": question.start,
        "end_time": question.end,
    }
    if len(answer.groups) > 1 or question.tag is not None or question.group_by == "group":
        body["series"] = [
            _named(group, question) | {"unit": group.unit, "data_points": points, "count": len(points)}
            for group, points in zip(answer.groups, by_group, strict=True)
        ]
    return body


def _named(group: Group, question: Question) -> dict[str, Any]:
    device, metric, value = group.label
    names: dict[str, Any] = {"device_id": device, "metric_name": metric}
    if question.group_by == "group":
        return names | {"group": value}
    return names if question.tag is None else names | {"tags": {question.tag: value}}


def _points(group: Group, with_device: bool) -> list[dict[str, Any]]:
    device, metric, _ = group.label
    names: dict[str, Any] = {"metric_name": metric} | ({"device_id": device} if with_device else {})
    if group.counts is not None:
        return [
            {"timestamp": moment(time), **names, "value": value, "unit": group.unit, "count": count}
            for time, value, count in zip(group.times, group.values, group.counts, strict=True)
        ]
    known: dict[bytes, dict[str, Any]] = {}
    points = []
    for time, value, entry in zip(group.times, group.values, group.contexts or (), strict=True):
        if entry not in known:
            unit, tags, metadata = read_context(entry)
            unit = unit or cached_registry().unit(metric or "")
            known[entry] = {"unit": unit, "tags": tags, "metadata": metadata}
        points.append({"timestamp": moment(time), **names, "value": value, **known[entry]})
    return points


def about(answer: Answer, explain: bool) -> dict[str, Any]:
    """What every answer tells of itself: whether there is more, whether something is missing, what was read."""
    body: dict[str, Any] = {"truncated": answer.next_cursor is not None, "next_cursor": answer.next_cursor}
    if answer.missing:
        body["incomplete"] = answer.missing
    return body | ({"explain": answer.read} if explain else {})
