"""Parameters of queries and exports, read into a Query that is limited to the devices of its caller.

Each value is validated here (400), combinations and limits by the Query (422).
"""

from datetime import UTC
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from metrics.api.csv_parameters import CSV_DEFAULTS, CsvParameters
from metrics.api.fields import (
    MAX_NAMES,
    MAX_NAMES_IN_URL,
    FillField,
    FiltersField,
    IntervalField,
    NamesField,
    checked,
    name_field,
    names_field,
)
from metrics.export.formats import FORMATS
from metrics.models import NAME_LENGTH
from metrics.query import latest
from metrics.query.accumulators import ACCEPTED_AGGREGATIONS
from metrics.query.neighbours import LOOKBACK_DAYS
from metrics.query.query import (
    ACCEPTED_GROUPINGS,
    MAX_POINTS,
    Query,
    aggregation_error,
    cursor_error,
    grouping_error,
    resolve_range,
    timezone_error,
)
from rest.caller import Caller
from rest.fields import BooleanField, StrictSerializer

LIST = r"comma-separated or repeated; a comma in a name is written `\,`."
BUCKETS = (
    "Buckets begin at whole multiples of the interval by the wall clock of `timezone`, whatever the range; the first"
    " and the last may lie partly outside of it and have only the points in it."
)
INTERVAL = (
    f"Seconds of a time bucket, `auto`, or `range`: one value for the whole range, also if it is left out. {BUCKETS}"
)
REQUIRED_INTERVAL = f"Seconds of a time bucket, `auto`, or `range`: one value for the whole range. {BUCKETS}"
FILL = (
    "Value of empty time buckets: `none` (omit them), `null`, `previous`, `linear`, or a number. At the edges of the"
    f" range `previous` and `linear` continue from the nearest time buckets outside of it, up to {LOOKBACK_DAYS} days"
    " away."
)
TIMEZONE = "IANA time zone that time buckets are aligned to."
DIFFERENCES = (
    "`increase`, `rate` and `delta` continue from the last point before the range, up to"
    f" {LOOKBACK_DAYS} days back, so that the values of parts add up to that of the whole."
)
AGGREGATION = f"{ACCEPTED_AGGREGATIONS}; raw points by default. {DIFFERENCES}"
GROUP_BY = f"{ACCEPTED_GROUPINGS}: what to aggregate separately."


def aggregation_field(**options: Any) -> Any:
    return serializers.CharField(max_length=NAME_LENGTH, validators=[checked(aggregation_error)], **options)


def timezone_field() -> Any:
    return serializers.CharField(default="UTC", max_length=60, validators=[checked(timezone_error)], help_text=TIMEZONE)


def grouping_field() -> Any:
    return serializers.CharField(
        default="series", max_length=NAME_LENGTH, validators=[checked(grouping_error)], help_text=GROUP_BY
    )


class ExplainParameter(StrictSerializer):
    explain = BooleanField(default=False, help_text="Whether to return what was read, as `explain`.")


class _Range(StrictSerializer):
    start_time = serializers.DateTimeField(
        default_timezone=UTC, help_text="Start of the range, inclusive; UTC without an offset."
    )
    end_time = serializers.DateTimeField(
        default_timezone=UTC, help_text="End of the range, exclusive; UTC without an offset."
    )


class PageParameters(ExplainParameter):
    """Parameters that all queries share."""

    interval = IntervalField(allow_null=True, default=None, help_text=INTERVAL)
    fill = FillField(default="none", help_text=FILL)
    timezone = timezone_field()
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_POINTS, default=MAX_POINTS, help_text="Maximum number of points."
    )
    cursor = serializers.CharField(
        allow_null=True,
        default=None,
        max_length=2000,
        validators=[checked(cursor_error)],
        help_text="`next_cursor` of the previous page.",
    )


@extend_schema_serializer(component_name="Query")
class QueryParameters(PageParameters, _Range):
    """PRD E3-US1."""

    metrics = serializers.ListField(child=name_field(), min_length=1, max_length=MAX_NAMES)
    devices = names_field("devices")
    aggregation = aggregation_field(allow_null=True, default=None, help_text=AGGREGATION)
    filters = FiltersField(allow_null=True, default=None)
    group_by = grouping_field()
    max_points = serializers.IntegerField(min_value=2, max_value=MAX_POINTS, allow_null=True, default=None)

    def to_query(self, caller: Caller) -> Query:
        data = self.validated_data
        filters = data["filters"] or {}
        return Query(
            metrics=tuple(dict.fromkeys(data["metrics"])),
            devices=_unique(data["devices"]),
            groups=_visible_groups(caller, filters.get("groups")),
            start=data["start_time"],
            end=data["end_time"],
            aggregation=data["aggregation"],
            group_by=data["group_by"],
            max_points=data["max_points"],
            tags=filters.get("tags") or {},
            min_value=filters.get("min_value"),
            max_value=filters.get("max_value"),
            **page_fields(data),
        )


class ExportParameters(CsvParameters, _Range):
    """PRD E7-US1, with the aggregation parameters of a query."""

    device_ids = NamesField(help_text=f"Device IDs, {LIST}")
    metric_names = NamesField(help_text=f"Metric names, {LIST}")
    aggregation = aggregation_field(allow_null=True, default=None, help_text=AGGREGATION)
    interval = IntervalField(allow_null=True, default=None, help_text=INTERVAL)
    fill = FillField(default="none", help_text=FILL)
    timezone = timezone_field()
    group_by = grouping_field()
    format = serializers.ChoiceField(choices=list(FORMATS), default="csv", help_text="File format.")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        stated = [name for name, default in CSV_DEFAULTS.items() if attributes[name] != default]
        if stated and attributes["format"] != "csv":
            raise serializers.ValidationError(dict.fromkeys(stated, "is accepted with the format csv only"))
        return attributes

    def to_query(self, caller: Caller) -> Query:
        data = self.validated_data
        return Query(
            metrics=data["metric_names"],
            devices=data["device_ids"],
            groups=caller.narrowed(None),
            start=data["start_time"],
            end=data["end_time"],
            **{name: data[name] for name in ("aggregation", "interval", "fill", "timezone", "group_by")},
        )


@extend_schema_serializer(component_name="Export")
class ExportJobParameters(ExportParameters):
    """Parameters of an export in the background, as a JSON object."""


class AggregatedParameters(PageParameters, _Range):
    """PRD E3-US5."""

    metric_name = name_field(help_text="Metric name.")
    aggregation_type = aggregation_field(help_text=f"{ACCEPTED_AGGREGATIONS}. {DIFFERENCES}")
    interval = IntervalField(help_text=REQUIRED_INTERVAL)
    device_id = serializers.CharField(
        max_length=NAME_LENGTH,
        allow_null=True,
        default=None,
        help_text="Device ID; by default all devices are aggregated together.",
    )
    groups = NamesField(
        MAX_NAMES_IN_URL, allow_null=True, default=None, help_text=f"Device groups, {LIST} All by default."
    )

    def to_query(self, caller: Caller) -> Query:
        data = self.validated_data
        return Query(
            metrics=(data["metric_name"],),
            devices=None if data["device_id"] is None else (data["device_id"],),
            groups=_visible_groups(caller, data["groups"]),
            start=data["start_time"],
            end=data["end_time"],
            aggregation=data["aggregation_type"],
            group_by="all",
            **page_fields(data),
        )


class RangeParameters(PageParameters):
    """PRD E3-US4: a named range up to now, or a range with a start or end time."""

    interval = IntervalField(
        allow_null=True,
        default=None,
        help_text=f"Seconds of a time bucket; `auto`, the default; or `range`: one value for the range. {BUCKETS}",
    )

    time_range = serializers.ChoiceField(
        choices=list(latest.TIME_RANGES),
        default="24h",
        help_text="Length of the range before `end_time`, or before now: then points up to 5 minutes ahead are"
        " included, too.",
    )
    start_time = serializers.DateTimeField(
        default=None, default_timezone=UTC, help_text="Start of the range, instead of `time_range`."
    )
    end_time = serializers.DateTimeField(
        default=None, default_timezone=UTC, help_text="End of the range, exclusive; 5 minutes ahead of now by default."
    )
    max_points = serializers.IntegerField(
        min_value=2,
        max_value=MAX_POINTS,
        default=MAX_POINTS,
        help_text="Maximum number of points; larger series are downsampled.",
    )
    columns = BooleanField(default=False, help_text="Whether to return times and values as two arrays.")
    aggregation = aggregation_field(allow_null=True, default=None, help_text=AGGREGATION)

    def to_query(self, caller: Caller, device_id: str, metric_name: str) -> Query:
        data = self.validated_data
        length = latest.TIME_RANGES[data["time_range"]]
        start, end = resolve_range(data["start_time"], data["end_time"], length, data["cursor"])
        return Query(
            metrics=(metric_name,),
            devices=(device_id,),
            groups=caller.narrowed(None),
            start=start,
            end=end,
            aggregation=data["aggregation"],
            max_points=data["max_points"] if data["aggregation"] is None else None,
            **page_fields(data) | {"interval": data["interval"] or ("auto" if data["aggregation"] else None)},
        )


def _visible_groups(caller: Caller, names: list[str] | None) -> tuple[str, ...] | None:
    return caller.narrowed(_unique(names))


def _unique(names: list[str] | None) -> tuple[str, ...] | None:
    """Return each name once; None, which is all, for an empty list, as in rules and silences."""
    return tuple(dict.fromkeys(names)) if names else None


def page_fields(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a Query that all queries take from their parameters."""
    return {name: data[name] for name in ("interval", "fill", "timezone", "limit", "cursor")}


def device_names(names: Any) -> list[str | None]:
    """Return the devices that a body names; [None] for all devices, or if the field is not a list of names."""
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return list(names) if is_list and names else [None]
