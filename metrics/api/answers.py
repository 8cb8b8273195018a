"""The shapes of answers about measurements, for the description of the API. Nothing is written by these at run time."""

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from metrics.api.fields import FillField, IntervalField
from metrics.export.formats import FORMATS
from metrics.models import ExportStatus
from rest.openapi import Answer

_TIMES = {"start_time": "From here on.", "end_time": "To before here."}


def value_field() -> Any:
    return serializers.JSONField(help_text="A number, text, boolean, object or array; null where a gap was filled so.")


def _or_null(field: type[serializers.Field[Any, Any, Any, Any]], told: str, **more: Any) -> Any:
    return field(allow_null=True, help_text=told, **more)


class _Incomplete(Answer):
    incomplete = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="What may belong to the answer and cannot be read; absent where all is well.",
    )


class LatestValue(_Incomplete):
    device_id = serializers.CharField()
    metric_name = serializers.CharField()
    value = value_field()
    unit = _or_null(serializers.CharField, "As it was sent, else as the metric's definition says.")
    timestamp = serializers.DateTimeField(help_text="When it was measured, in UTC.")
    tags = serializers.DictField()
    metadata = serializers.DictField()


class LatestValues(_Incomplete):
    series = LatestValue(many=True)


class DataPoint(Answer):
    timestamp = serializers.DateTimeField(help_text="When it was measured; of an aggregate, where its interval begins.")
    metric_name = _or_null(serializers.CharField, "Null where metrics were pooled.")
    device_id = _or_null(serializers.CharField, "Where the answer has several devices.", required=False)
    value = value_field()
    unit = _or_null(serializers.CharField, "Null where it has none.")
    tags = serializers.DictField(required=False, help_text="Of points as they were sent.")
    metadata = serializers.DictField(required=False, help_text="Of points as they were sent.")
    count = serializers.IntegerField(required=False, help_text="Of aggregates: points of the interval.")


class QuerySeries(Answer):
    device_id = _or_null(serializers.CharField, "Null where devices were pooled.")
    metric_name = _or_null(serializers.CharField, "Null where metrics were pooled.")
    group = _or_null(serializers.CharField, "By `group_by: group`.", required=False)
    tags = serializers.DictField(required=False, help_text="By `group_by: tag:<name>`: that tag and its value.")
    unit = _or_null(serializers.CharField, "Null where it has none.")
    data_points = DataPoint(many=True)
    count = serializers.IntegerField()


class _Paged(_Incomplete):
    truncated = serializers.BooleanField(help_text="Whether there is more than `limit`.")
    next_cursor = _or_null(serializers.CharField, "What to send as `cursor` for what comes next.")
    explain = serializers.DictField(required=False, help_text="What was read, where `explain` was asked for.")


class QueryAnswer(_Paged):
    device_id = _or_null(serializers.CharField, "Of the first series.")
    metric_name = _or_null(serializers.CharField, "Of the first series.")
    data_points = DataPoint(many=True)
    count = serializers.IntegerField(help_text="Points in this answer.")
    aggregation = _or_null(serializers.CharField, "Null: points as they were sent.")
    interval = _or_null(serializers.IntegerField, "Seconds; null: the whole range, or no aggregation.")
    start_time = serializers.DateTimeField(help_text=_TIMES["start_time"])
    end_time = serializers.DateTimeField(help_text=_TIMES["end_time"])
    series = QuerySeries(many=True, required=False, help_text="The same by series, where there are several.")


class RangeColumns(_Paged):
    times = serializers.ListField(child=serializers.FloatField(), help_text="Milliseconds since 1970.")
    values = serializers.ListField(help_text="The value at each of the times.")
    unit = _or_null(serializers.CharField, "Null where it has none.")


class AggregatedPoint(Answer):
    timestamp = serializers.DateTimeField(help_text="Where the interval begins.")
    value = value_field()
    count = serializers.IntegerField(help_text="Points of the interval.")


class AggregatedAnswer(_Paged):
    metric_name = serializers.CharField()
    device_id = _or_null(serializers.CharField, "Null: all devices that were asked for, pooled.")
    aggregation_type = serializers.CharField()
    interval = _or_null(serializers.IntegerField, "Seconds.")
    unit = _or_null(serializers.CharField, "Null where it has none.")
    start_time = serializers.DateTimeField(help_text=_TIMES["start_time"])
    end_time = serializers.DateTimeField(help_text=_TIMES["end_time"])
    data_points = AggregatedPoint(many=True)
    count = serializers.IntegerField()


class Page(Answer):
    count = serializers.IntegerField(help_text="Rows in this answer.")
    next_cursor = _or_null(serializers.CharField, "What to send as `cursor` for what comes next.")
    total = serializers.IntegerField(help_text="Rows that there are.")
    limit = serializers.IntegerField()
    offset = serializers.IntegerField()


class Done(Answer):
    success = serializers.BooleanField()
    message = serializers.CharField()


@extend_schema_serializer(component_name="ExportJob")
class ExportJobAnswer(Answer):
    id = serializers.CharField()
    status = serializers.ChoiceField(ExportStatus.choices)
    progress = serializers.FloatField(help_text="From 0 to 1.")
    rows = serializers.IntegerField()
    bytes = serializers.IntegerField()
    detail = serializers.CharField(help_text="Why it failed; else empty.")
    incomplete = serializers.ListField(child=serializers.CharField(), help_text="What could not be read.")
    owner = serializers.CharField(help_text="Who ordered it.")
    format = serializers.ChoiceField(list(FORMATS))
    device_ids = serializers.ListField(child=serializers.CharField())
    metric_names = serializers.ListField(child=serializers.CharField())
    start_time = serializers.DateTimeField(help_text=_TIMES["start_time"])
    end_time = serializers.DateTimeField(help_text=_TIMES["end_time"])
    aggregation = _or_null(serializers.CharField, "Null: points as they were sent.")
    interval = IntervalField(allow_null=True)
    fill = FillField()
    timezone = serializers.CharField()
    group_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    started_at = _or_null(serializers.DateTimeField, "When a worker took it.")
    finished_at = _or_null(serializers.DateTimeField, "When it was done, failed or cancelled.")
    expires_at = _or_null(serializers.DateTimeField, "When it is dropped.")


class ExportJobs(Page):
    jobs = ExportJobAnswer(many=True)
