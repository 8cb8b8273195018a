"""Routes: additional channels for matching alerts, and escalation of alerts that stay unacknowledged."""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.validators import UniqueValidator

from alerts.api import examples
from alerts.api.fields import MAX_NAMES, WeeklyField, levels_field
from alerts.api.filters import EXACT_TEXT
from alerts.models import Channel, Route
from alerts.notifications import channel_lifecycle
from alerts.visibility import narrow_routes, visible_routes
from rest.fields import StrictSerializer, name_field, names_field
from rest.filters import BooleanFilter, FilterSet, SearchFilter
from rest.openapi import Tag
from rest.pagination import PageQuerySerializer
from rest.resources import Action, Resource, describe
from rest.responses import page_example

MAX_CHANNELS = 100


@extend_schema_serializer(component_name="Step")
class EscalationStepSerializer(serializers.Serializer[Any]):
    after_minutes = serializers.IntegerField(
        min_value=1, max_value=channel_lifecycle.MAX_STEP_MINUTES, help_text="Minutes after the alert was opened."
    )
    channels = serializers.ListField(
        child=name_field(), min_length=1, max_length=MAX_CHANNELS, help_text="Channels to notify."
    )


@extend_schema_serializer(component_name="AlertRoute")
class RouteSerializer(StrictSerializer, serializers.ModelSerializer[Route]):
    """Reads the names of all existing channels from its context as `channels`."""

    name = name_field(help_text="Display name.", validators=[UniqueValidator(Route.objects.all(), "is taken")])
    levels = levels_field("Alert levels; an empty list matches every level.")
    device_groups = names_field("Device groups; an empty list matches every device.", MAX_NAMES)
    weekly = WeeklyField(
        allow_null=True, required=False, help_text="Recurring window in which the route applies; null: always."
    )
    channels = names_field("Names of channels, including channels that do not exist yet.", MAX_CHANNELS)
    repeat_minutes = serializers.IntegerField(
        min_value=1,
        max_value=channel_lifecycle.MAX_STEP_MINUTES,
        allow_null=True,
        required=False,
        help_text="Minutes between repeated notifications until the alert is acknowledged; null: notify once.",
    )
    escalation = serializers.ListField(
        child=EscalationStepSerializer(),
        max_length=channel_lifecycle.MAX_ESCALATION_STEPS,
        required=False,
        help_text="Escalation steps, until the alert is acknowledged.",
    )
    unconfigured_channels = serializers.SerializerMethodField(help_text="Names of channels that do not exist.")

    class Meta:
        model = Route
        fields = (
            "route_id", "name", "enabled", "levels", "device_groups", "weekly", "channels", "repeat_minutes",
            "escalation", "unconfigured_channels", "created_by", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = ("route_id", "created_by", "created_at", "updated_at")

    def get_unconfigured_channels(self, route: Route) -> list[str]:
        return [name for name in channels_of(route) if name not in self.context["channels"]]


def channels_of(route: Route) -> list[str]:
    """Return the names of all channels of a route and its escalation steps."""
    return list(dict.fromkeys([*route.channels, *(name for step in route.escalation for name in step["channels"])]))


class RouteFilters(FilterSet):
    enabled = BooleanFilter(help_text="Whether the route is enabled.")
    search = SearchFilter("name__icontains", help_text="Text in the name.", **EXACT_TEXT)


@describe(
    Tag.ALERTS,
    list=Action(
        "list_alert_routes",
        "List routes",
        "Returns a page of the routes of the caller's devices, sorted by name. Requires scope `operate`.",
        request={"enabled": True},
        response=page_example("routes", examples.CREATED_ROUTE, filters={"enabled": "true"}),
    ),
    create=Action(
        "create_alert_route",
        "Create a route",
        "Matching alerts also notify the channels of the route, and those of its escalation steps until the alert is"
        " acknowledged.",
        request=examples.ROUTE,
        response=examples.CREATED_ROUTE,
    ),
    retrieve=Action(
        "get_alert_route",
        "Get a route",
        "Returns what the route matches and which channels it notifies.",
        response=examples.CREATED_ROUTE,
    ),
    partial_update=Action(
        "update_alert_route",
        "Change a route",
        "Omitted fields keep their values.",
        request={"enabled": False},
        response=examples.CREATED_ROUTE | {"enabled": False},
    ),
    destroy=Action(
        "delete_alert_route",
        "Delete a route",
        "Alerts then notify the channels of their rule and of the other routes.",
        response={"success": True, "message": "nights is deleted"},
    ),
)
class RouteResource(Resource):
    serializer_class = RouteSerializer
    filterset_class = RouteFilters
    lookup_field = "route_id"
    rows_field = "routes"
    echo_filters = "sent"
    read_scope = "operate"

    def get_queryset(self) -> QuerySet[Route]:
        return visible_routes(self.caller)

    def represent(self, rows: Sequence[Route], query: PageQuerySerializer | None = None) -> Any:
        narrow_routes(rows, self.caller)
        names = {name for route in rows for name in channels_of(route)}
        channels = set(Channel.objects.filter(name__in=names).values_list("name", flat=True))
        return RouteSerializer(rows, many=True, context={"channels": channels}).data

    def perform_create(self, serializer: Any) -> Route:
        return channel_lifecycle.create_route(serializer.validated_data, self.caller.name)

    def perform_update(self, serializer: Any) -> Route:
        return channel_lifecycle.change_route(serializer.instance, serializer.validated_data)

    def deleted_message(self, row: Route) -> str:
        return f"{row.name} is deleted"
