"""Response bodies of queries and exports, for the API description; nothing is written through them."""

from typing import Any

from rest_framework import serializers

from metrics.api.fields import FillField, IntervalField
from metrics.export.formats import FORMATS
from metrics.models import ExportStatus
from rest.csv_text import DELIMITERS
from rest.responses import ResponseSerializer

_TIMES = {"start_time": "Start of the range, inclusive.", "end_time": "End of the range, exclusive."}


def value_field() -> Any:
    return serializers.JSONField(
        help_text="Number, text, boolean, object or array; null in a time bucket filled with null."
    )


def _nullable(field: type[serializers.Field[Any, Any, Any, Any]], help_text: str, **options: Any) -> Any:
    return field(allow_null=True, help_text=help_text, **options)


class _IncompleteSerializer(ResponseSerializer):
    incomplete = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="Damaged data that is missing from the response; omitted if there is none.",
    )


class LatestValueSerializer(_IncompleteSerializer):
    device_id = serializers.CharField()
    metric_name = serializers.CharField()
    value = value_field()
    unit = _nullable(serializers.CharField, "Unit of the point, or of the metric definition.")
    timestamp = serializers.DateTimeField(help_text="Time of the point, in UTC.")
    tags = serializers.DictField()
    metadata = serializers.DictField()


class LatestValuesSerializer(_IncompleteSerializer):
    series = LatestValueSerializer(many=True)


class DataPointSerializer(ResponseSerializer):
    timestamp = serializers.DateTimeField(help_text="Time of the point, or start of the time bucket.")
    metric_name = _nullable(serializers.CharField, "Null if metrics are aggregated together.")
    device_id = _nullable(serializers.CharField, "Present if the response has several devices.", required=False)
    value = value_field()
    unit = _nullable(serializers.CharField, "Null if the metric has no unit.")
    tags = serializers.DictField(required=False, help_text="Only for raw points.")
    metadata = serializers.DictField(required=False, help_text="Only for raw points.")
    count = serializers.IntegerField(
        required=False, help_text="Number of points in the time bucket; only with an aggregation."
    )


class QuerySeriesSerializer(ResponseSerializer):
    device_id = _nullable(serializers.CharField, "Null if devices are aggregated together.")
    metric_name = _nullable(serializers.CharField, "Null if metrics are aggregated together.")
    group = _nullable(serializers.CharField, "Device group, with `group_by: group`.", required=False)
    tags = serializers.DictField(required=False, help_text="Tag and value, with `group_by: tag:<name>`.")
    unit = _nullable(serializers.CharField, "Null if the metric has no unit.")
    data_points = DataPointSerializer(many=True)
    count = serializers.IntegerField()


class _PointsPageSerializer(_IncompleteSerializer):
    truncated = serializers.BooleanField(help_text="Whether there are more points than `limit`.")
    next_cursor = _nullable(serializers.CharField, "`cursor` of the next page; null on the last one.")
    explain = serializers.DictField(
        required=False, help_text="Blocks and rollups that were read, with the parameter `explain`."
    )


class QueryAnswerSerializer(_PointsPageSerializer):
    device_id = _nullable(serializers.CharField, "Value of the first series.")
    metric_name = _nullable(serializers.CharField, "Value of the first series.")
    data_points = DataPointSerializer(many=True)
    count = serializers.IntegerField(help_text="Number of points in this response.")
    aggregation = _nullable(serializers.CharField, "Null for raw points.")
    interval = _nullable(
        serializers.IntegerField, "Seconds of a time bucket; null for the whole range or without aggregation."
    )
    start_time = serializers.DateTimeField(help_text=_TIMES["start_time"])
    end_time = serializers.DateTimeField(help_text=_TIMES["end_time"])
    series = QuerySeriesSerializer(many=True, required=False, help_text="Points by series, if there are several.")


class RangeColumnsSerializer(_PointsPageSerializer):
    times = serializers.ListField(child=serializers.FloatField(), help_text="Milliseconds since 1970.")
    values = serializers.ListField(help_text="Value at each time.")
    unit = _nullable(serializers.CharField, "Null if the metric has no unit.")


class AggregatedPointSerializer(ResponseSerializer):
    timestamp = serializers.DateTimeField(help_text="Start of the time bucket.")
    value = value_field()
    count = serializers.IntegerField(help_text="Number of points in the time bucket.")


class AggregatedAnswerSerializer(_PointsPageSerializer):
    metric_name = serializers.CharField()
    device_id = _nullable(serializers.CharField, "Null if several devices are aggregated together.")
    aggregation_type = serializers.CharField()
    interval = _nullable(serializers.IntegerField, "Seconds of a time bucket.")
    unit = _nullable(serializers.CharField, "Null if the metric has no unit.")
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
    detail = serializers.CharField(help_text="Error of a failed export.")
    incomplete = serializers.ListField(
        child=serializers.CharField(), help_text="Damaged data that is missing from the file."
    )
    owner = serializers.CharField(help_text="Caller that ordered the export.")
    format = serializers.ChoiceField(list(FORMATS))
    bom = serializers.BooleanField(help_text="Whether a CSV file begins with a byte order mark.")
    delimiter = serializers.ChoiceField(list(DELIMITERS), help_text="Delimiter of a CSV file.")
    decimal = serializers.ChoiceField([".", ","], help_text="Decimal separator of a CSV file.")
    device_ids = serializers.ListField(child=serializers.CharField())
    metric_names = serializers.ListField(child=serializers.CharField())
    start_time = serializers.DateTimeField(help_text=_TIMES["start_time"])
    end_time = serializers.DateTimeField(help_text=_TIMES["end_time"])
    aggregation = _nullable(serializers.CharField, "Null for raw points.")
    interval = IntervalField(allow_null=True)
    fill = FillField()
    timezone = serializers.CharField()
    group_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    started_at = _nullable(serializers.DateTimeField, "Time a worker started the export.")
    finished_at = _nullable(serializers.DateTimeField, "Time the export was done, failed or was cancelled.")
    expires_at = _nullable(serializers.DateTimeField, "Time the file is deleted.")
