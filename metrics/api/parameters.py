"""What may be asked, read from a request into a Query. Types are judged here (400), sense by the Query (422).

A Query that comes out of here asks only for what its caller sees.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from metrics.api.fields import (
    MOST_IN_ADDRESS,
    MOST_NAMES,
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
from metrics.query.query import ACCEPTED_GROUPINGS, MAX_POINTS, MAX_RANGE, Query
from rest.caller import Caller

INTERVAL = "Seconds of an interval, or `auto`; without one the whole range is one."
FILL = "What stands where there is no point: `none` (nothing), `null`, `previous`, `linear`, or a number."
TIMEZONE = "IANA name of the time zone in which days and hours begin."
AGGREGATION = f"{ACCEPTED_AGGREGATIONS}; without one points come as they were sent."
GROUP_BY = f"{ACCEPTED_GROUPINGS}: of what there is one aggregate each."


class _Range(serializers.Serializer[Any]):
    start_time = serializers.DateTimeField(default_timezone=UTC, help_text="From here on; without an offset in UTC.")
    end_time = serializers.DateTimeField(default_timezone=UTC, help_text="To before here.")


class _Page(serializers.Serializer[Any]):
    """What every question may have."""

    interval = IntervalField(allow_null=True, default=None, help_text=INTERVAL)
    fill = FillField(default="none", help_text=FILL)
    timezone = serializers.CharField(default="UTC", max_length=60, help_text=TIMEZONE)
    limit = serializers.IntegerField(min_value=1, max_value=MAX_POINTS, default=MAX_POINTS, help_text="Most points.")
    cursor = serializers.CharField(
        allow_null=True, default=None, max_length=2000, help_text="The `next_cursor` of the answer before."
    )
    explain = serializers.BooleanField(default=False, help_text="Tell what was read.")


@extend_schema_serializer(component_name="Query")
class QueryParameters(_Page, _Range):
    """PRD E3-US1."""

    metrics = serializers.ListField(child=name_field(), min_length=1, max_length=MOST_NAMES)
    devices = names_field("devices")
    aggregation = serializers.CharField(allow_null=True, default=None, help_text=AGGREGATION)
    filters = FiltersField(allow_null=True, default=None)
    group_by = serializers.CharField(default="series", max_length=NAME_LENGTH, help_text=GROUP_BY)
    max_points = serializers.IntegerField(min_value=2, max_value=MAX_POINTS, allow_null=True, default=None)

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        given = self.initial_data if isinstance(self.initial_data, Mapping) else {}
        if unknown := sorted(set(map(str, given)) - set(self.fields)):
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not known"))
        return attributes

    def to_query(self, caller: Caller) -> Query:
        given = self.validated_data
        filters = given["filters"] or {}
        return Query(
            metrics=tuple(dict.fromkeys(given["metrics"])),
            devices=_once(given["devices"]),
            groups=_seen(caller, filters.get("groups")),
            start=given["start_time"],
            end=given["end_time"],
            aggregation=given["aggregation"],
            group_by=given["group_by"],
            max_points=given["max_points"],
            tags=filters.get("tags") or {},
            min_value=filters.get("min_value"),
            max_value=filters.get("max_value"),
            **_page(given),
        )


class ExportParameters(_Range):
    """PRD E7-US1, and what a query may ask besides."""

    device_ids = NamesField(help_text="Devices, with commas between or once each.")
    metric_names = NamesField(help_text="Metrics, with commas between or once each.")
    aggregation = serializers.CharField(allow_null=True, default=None, max_length=NAME_LENGTH, help_text=AGGREGATION)
    interval = IntervalField(allow_null=True, default=None, help_text=INTERVAL)
    fill = FillField(default="none", help_text=FILL)
    timezone = serializers.CharField(default="UTC", max_length=60, help_text=TIMEZONE)
    group_by = serializers.CharField(default="series", max_length=NAME_LENGTH, help_text=GROUP_BY)
    format = serializers.ChoiceField(choices=list(FORMATS), default="csv", help_text="The kind of file.")

    def to_query(self, caller: Caller) -> Query:
        given = self.validated_data
        return Query(
            metrics=given["metric_names"],
            devices=given["device_ids"],
            groups=caller.narrowed(None),
            start=given["start_time"],
            end=given["end_time"],
            **{name: given[name] for name in ("aggregation", "interval", "fill", "timezone", "group_by")},
        )


@extend_schema_serializer(component_name="Export")
class ExportJobParameters(ExportParameters):
    """The same for an export in the background, as a JSON object."""

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(map(str, self.initial_data)) - set(self.fields)):
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not known"))
        return attributes


class AggregatedParameters(_Page, _Range):
    """PRD E3-US5."""

    metric_name = name_field(help_text="The metric.")
    aggregation_type = serializers.CharField(help_text=f"{ACCEPTED_AGGREGATIONS}.")
    interval = IntervalField(help_text=INTERVAL)
    device_id = serializers.CharField(
        max_length=NAME_LENGTH, allow_null=True, default=None, help_text="This device; else all are pooled."
    )
    groups = names_field("device groups", MOST_IN_ADDRESS)

    def to_query(self, caller: Caller) -> Query:
        given = self.validated_data
        return Query(
            metrics=(given["metric_name"],),
            devices=None if given["device_id"] is None else (given["device_id"],),
            groups=_seen(caller, given["groups"]),
            start=given["start_time"],
            end=given["end_time"],
            aggregation=given["aggregation_type"],
            group_by="all",
            **_page(given),
        )


class RangeParameters(_Page):
    """PRD E3-US4: a named range up to now, or one with a start or an end of its own."""

    time_range = serializers.ChoiceField(
        choices=list(latest.TIME_RANGES), default="24h", help_text="How far back from `end_time`."
    )
    start_time = serializers.DateTimeField(
        default=None, default_timezone=UTC, help_text="From here on, instead of `time_range`."
    )
    end_time = serializers.DateTimeField(default=None, default_timezone=UTC, help_text="To before here; else to now.")
    max_points = serializers.IntegerField(
        min_value=2, max_value=MAX_POINTS, default=MAX_POINTS, help_text="More points than these are thinned."
    )
    columns = serializers.BooleanField(default=False, help_text="Times and values as two arrays.")
    aggregation = serializers.CharField(allow_null=True, default=None, help_text=AGGREGATION)

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        end = attributes["end_time"] or datetime.now(UTC) + timedelta(minutes=5)
        start = attributes["start_time"] or end - latest.TIME_RANGES[attributes["time_range"]]
        if start >= end:
            raise serializers.ValidationError({"start_time": "must be before end_time"})
        if end - start > MAX_RANGE:
            raise serializers.ValidationError({"start_time": f"a range may span {MAX_RANGE.days:,} days at most"})
        if attributes["interval"] is not None and attributes["aggregation"] is None:
            raise serializers.ValidationError({"aggregation": "is needed with an interval"})
        return attributes | {"start": start, "end": end}

    def to_query(self, caller: Caller, device_id: str, metric_name: str) -> Query:
        given = self.validated_data
        return Query(
            metrics=(metric_name,),
            devices=(device_id,),
            groups=caller.narrowed(None),
            start=given["start"],
            end=given["end"],
            aggregation=given["aggregation"],
            max_points=given["max_points"] if given["aggregation"] is None else None,
            **_page(given) | {"interval": given["interval"] or "auto" if given["aggregation"] else None},
        )


def _seen(caller: Caller, names: list[str] | None) -> tuple[str, ...] | None:
    return caller.narrowed(_once(names))


def _once(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(names))


def _page(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("interval", "fill", "timezone", "limit", "cursor")}


def device_names(names: Any) -> list[str | None]:
    """Return the devices that a body names; [None] for all devices, or if the field is not a list of names."""
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return list(names) if is_list and names else [None]
