"""Parameters of queries and exports, read into a Query that is limited to what its caller sees.

Types are validated here (400), ranges and combinations by the Query (422).
"""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from metrics.api.fields import (
    MAX_NAMES,
    MAX_NAMES_IN_URL,
    FillField,
    FiltersField,
    IntervalField,
    NamesField,
    name_field,
    names_field,
)
from metrics.export.formats import FORMATS
from metrics.models import NAME_LENGTH
from metrics.query import latest
from metrics.query.accumulators import ACCEPTED_AGGREGATIONS
from metrics.query.neighbours import LOOKBACK_DAYS
from metrics.query.query import ACCEPTED_GROUPINGS, CLOCK_TOLERANCE, MAX_POINTS, MAX_RANGE, Query, resolve_end
from rest.caller import Caller

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


class _Range(serializers.Serializer[Any]):
    start_time = serializers.DateTimeField(
        default_timezone=UTC, help_text="Start of the range, inclusive; UTC without an offset."
    )
    end_time = serializers.DateTimeField(
        default_timezone=UTC, help_text="End of the range, exclusive; UTC without an offset."
    )


class _Page(serializers.Serializer[Any]):
    """Parameters that all queries share."""

    interval = IntervalField(allow_null=True, default=None, help_text=INTERVAL)
    fill = FillField(default="none", help_text=FILL)
    timezone = serializers.CharField(default="UTC", max_length=60, help_text=TIMEZONE)
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_POINTS, default=MAX_POINTS, help_text="Maximum number of points."
    )
    cursor = serializers.CharField(
        allow_null=True, default=None, max_length=2000, help_text="`next_cursor` of the previous page."
    )
    explain = serializers.BooleanField(default=False, help_text="Whether to return what was read, as `explain`.")


@extend_schema_serializer(component_name="Query")
class QueryParameters(_Page, _Range):
    """PRD E3-US1."""

    metrics = serializers.ListField(child=name_field(), min_length=1, max_length=MAX_NAMES)
    devices = names_field("devices")
    aggregation = serializers.CharField(allow_null=True, default=None, help_text=AGGREGATION)
    filters = FiltersField(allow_null=True, default=None)
    group_by = serializers.CharField(default="series", max_length=NAME_LENGTH, help_text=GROUP_BY)
    max_points = serializers.IntegerField(min_value=2, max_value=MAX_POINTS, allow_null=True, default=None)

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        fields = self.initial_data if isinstance(self.initial_data, Mapping) else {}
        if unknown := sorted(set(map(str, fields)) - set(self.fields)):
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not a known field"))
        return attributes

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
            **_page(data),
        )


class ExportParameters(_Range):
    """PRD E7-US1, with the aggregation parameters of a query."""

    device_ids = NamesField(help_text=f"Device IDs, {LIST}")
    metric_names = NamesField(help_text=f"Metric names, {LIST}")
    aggregation = serializers.CharField(allow_null=True, default=None, max_length=NAME_LENGTH, help_text=AGGREGATION)
    interval = IntervalField(allow_null=True, default=None, help_text=INTERVAL)
    fill = FillField(default="none", help_text=FILL)
    timezone = serializers.CharField(default="UTC", max_length=60, help_text=TIMEZONE)
    group_by = serializers.CharField(default="series", max_length=NAME_LENGTH, help_text=GROUP_BY)
    format = serializers.ChoiceField(choices=list(FORMATS), default="csv", help_text="File format.")

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

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(map(str, self.initial_data)) - set(self.fields)):
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not a known field"))
        return attributes


class AggregatedParameters(_Page, _Range):
    """PRD E3-US5."""

    metric_name = name_field(help_text="Metric name.")
    aggregation_type = serializers.CharField(help_text=f"{ACCEPTED_AGGREGATIONS}. {DIFFERENCES}")
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
            **_page(data),
        )


class RangeParameters(_Page):
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
    columns = serializers.BooleanField(default=False, help_text="Whether to return times and values as two arrays.")
    aggregation = serializers.CharField(allow_null=True, default=None, help_text=AGGREGATION)

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        end = resolve_end(attributes["end_time"], attributes["cursor"])
        last = end - CLOCK_TOLERANCE if attributes["end_time"] is None else end
        start = attributes["start_time"] or last - latest.TIME_RANGES[attributes["time_range"]]
        if start >= end:
            raise serializers.ValidationError({"start_time": "must be before end_time"})
        if end - start > MAX_RANGE:
            raise serializers.ValidationError(
                {"start_time": f"the range must not be longer than {MAX_RANGE.days:,} days"}
            )
        if attributes["interval"] is not None and attributes["aggregation"] is None:
            raise serializers.ValidationError({"aggregation": "is required with an interval"})
        return attributes | {"start": start, "end": end}

    def to_query(self, caller: Caller, device_id: str, metric_name: str) -> Query:
        data = self.validated_data
        return Query(
            metrics=(metric_name,),
            devices=(device_id,),
            groups=caller.narrowed(None),
            start=data["start"],
            end=data["end"],
            aggregation=data["aggregation"],
            max_points=data["max_points"] if data["aggregation"] is None else None,
            **_page(data) | {"interval": data["interval"] or "auto" if data["aggregation"] else None},
        )


def _visible_groups(caller: Caller, names: list[str] | None) -> tuple[str, ...] | None:
    return caller.narrowed(_unique(names))


def _unique(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(names))


def _page(data: dict[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in ("interval", "fill", "timezone", "limit", "cursor")}


def device_names(names: Any) -> list[str | None]:
    """Return the devices that a body names; [None] for all devices, or if the field is not a list of names."""
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return list(names) if is_list and names else [None]
