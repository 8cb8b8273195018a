"""The shapes of answers about measurements, for the description of the API. Nothing is written by these at run time."""

from typing import Any

from rest_framework import serializers

from metrics.api.fields import FillField, IntervalField
from metrics.export.formats import FORMATS
from metrics.models import ExportStatus
from rest.responses import ResponseSerializer

_TIMES = {"start_time": "From here on.", "end_time": "To before here."}


def value_field() -> Any:
    return serializers.JSONField(help_text="A number, text, boolean, object or array; null where a gap was filled so.")


def _nullable(field: type[serializers.Field[Any, Any, Any, Any]], told: str, **more: Any) -> Any:
    return field(allow_null=True, help_text=told, **more)


class _IncompleteSerializer(ResponseSerializer):
    incomplete = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="What may belong to the answer and cannot be read; absent where all is well.",
    )


class LatestValueSerializer(_IncompleteSerializer):
    device_id = serializers.CharField()
    metric_name = serializers.CharField()
    value = value_field()
    unit = _nullable(serializers.CharField, "As it was sent, else as the metric's definition says.")
    timestamp = serializers.DateTimeField(help_text="When it was measured, in UTC.")
    tags = serializers.DictField()
    metadata = serializers.DictField()


class LatestValuesSerializer(_IncompleteSerializer):
    series = LatestValueSerializer(many=True)


class DataPointSerializer(ResponseSerializer):
    timestamp = serializers.DateTimeField(help_text="When it was measured; of an aggregate, where its interval begins.")
    metric_name = _nullable(serializers.CharField, "Null where metrics were pooled.")
    device_id = _nullable(serializers.CharField, "Where the answer has several devices.", required=False)
    value = value_field()
    unit = _nullable(serializers.CharField, "Null where it has none.")
    tags = serializers.DictField(required=False, help_text="Of points as they were sent.")
    metadata = serializers.DictField(required=False, help_text="Of points as they were sent.")
    count = serializers.IntegerField(required=False, help_text="Of aggregates: points of the interval.")


class QuerySeriesSerializer(ResponseSerializer):
    device_id = _nullable(serializers.CharField, "Null where devices were pooled.")
    metric_name = _nullable(serializers.CharField, "Null where metrics were pooled.")
    group = _nullable(serializers.CharField, "By `group_by: group`.", required=False)
    tags = serializers.DictField(required=False, help_text="By `group_by: tag:<name>`: that tag and its value.")
    unit = _nullable(serializers.CharField, "Null where it has none.")
    data_points = DataPointSerializer(many=True)
    count = serializers.IntegerField()


class _PointsPageSerializer(_IncompleteSerializer):
    truncated = serializers.BooleanField(help_text="Whether there is more than `limit`.")
    next_cursor = _nullable(serializers.CharField, "What to send as `cursor` for what comes next.")
    explain = serializers.DictField(required=False, help_text="What was read, where `explain` was asked for.")


class QueryAnswerSerializer(_PointsPageSerializer):
    device_id = _nullable(serializers.CharField, "Of the first series.")
    metric_name = _nullable(serializers.CharField, "Of the first series.")
    data_points = DataPointSerializer(many=True)
    count = serializers.IntegerField(help_text="Points in this answer.")
    aggregation = _nullable(serializers.CharField, "Null: points as they were sent.")
    interval = _nullable(serializers.IntegerField, "Seconds; null: the whole range, or no aggregation.")
    start_time = serializers.DateTimeField(help_text=_TIMES["start_time"])
    end_time = serializers.DateTimeField(help_text=_TIMES["end_time"])
    series = QuerySeriesSerializer(many=True, required=False, help_text="The same by series, where there are several.")


class RangeColumnsSerializer(_PointsPageSerializer):
    times = serializers.ListField(child=serializers.FloatField(), help_text="Milliseconds since 1970.")
    values = serializers.ListField(help_text="The value at each of the times.")
    unit = _nullable(serializers.CharField, "Null where it has none.")


class AggregatedPointSerializer(ResponseSerializer):
    timestamp = serializers.DateTimeField(help_text="Where the interval begins.")
    value = value_field()
    count = serializers.IntegerField(help_text="Points of the interval.")


class AggregatedAnswerSerializer(_PointsPageSerializer):
    metric_name = serializers.CharField()
    device_id = _nullable(serializers.CharField, "Null: all devices that were asked for, pooled.")
    aggregation_type = serializers.CharField()
    interval = _nullable(serializers.IntegerField, "Seconds.")
    unit = _nullable(serializers.CharField, "Null where it has none.")
    start_time = serializers.DateTimeField(help_text=_TIMES["start_time"])
    end_time = serializers.DateTimeField(help_text=_TIMES["end_time"])
    data_points = AggregatedPointSerializer(many=True)
    count = serializers.IntegerField()


class ExportJobSerializer(ResponseSerializer):
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
    aggregation = _nullable(serializers.CharField, "Null: points as they were sent.")
    interval = IntervalField(allow_null=True)
    fill = FillField()
    timezone = serializers.CharField()
    group_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    started_at = _nullable(serializers.DateTimeField, "When a worker took it.")
    finished_at = _nullable(serializers.DateTimeField, "When it was done, failed or cancelled.")
    expires_at = _nullable(serializers.DateTimeField, "When it is dropped.")
