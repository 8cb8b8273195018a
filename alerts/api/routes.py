"""Routes: which alerts go to which channels besides those of their rule, and whom to tell when nobody reacts."""

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.channels import MayConfigure
from alerts.api.checking import checked, found_by, refusing, unique_name
from alerts.api.lists import Filtered, asked, maybe, text, told
from alerts.api.schedules import WeeklyField, names_of
from alerts.models import Channel, Level, Route
from alerts.notifications import channel_lifecycle
from metrics.api.answers import Done
from metrics.api.definitions import ChoiceField
from rest.configuration import Known, name_field
from rest.etags import check_match, etag
from rest.idempotency import idempotent
from rest.openapi import Tag, operation, state
from rest.pagination import PageParameters, page
from rest.permissions import caller

MOST_CHANNELS = 100


class Step(serializers.Serializer[Any]):
    after_minutes = serializers.IntegerField(
        min_value=1, max_value=channel_lifecycle.MAX_STEP_MINUTES, help_text="After it was raised."
    )
    channels = serializers.ListField(child=name_field(), min_length=1, max_length=MOST_CHANNELS)


@extend_schema_serializer(component_name="AlertRoute")
class RouteSerializer(Known, serializers.ModelSerializer[Route]):
    name = name_field(help_text="What people call it.")
    levels = serializers.ListField(
        child=ChoiceField(Level.choices), max_length=len(Level), required=False, help_text="Of these levels; none: any."
    )
    device_groups = names_of("Of devices of these groups; none: of any device.")
    weekly = WeeklyField(allow_null=True, required=False, help_text="At these times of the week; null: always.")
    channels = names_of("Names of channels, of which some may not exist yet.", MOST_CHANNELS)
    repeat_minutes = serializers.IntegerField(
        min_value=1,
        max_value=channel_lifecycle.MAX_STEP_MINUTES,
        allow_null=True,
        required=False,
        help_text="Told again so often until somebody acknowledges; null: once.",
    )
    escalation = serializers.ListField(
        child=Step(),
        max_length=channel_lifecycle.MAX_ESCALATION_STEPS,
        required=False,
        help_text="Until somebody acknowledges.",
    )
    unconfigured_channels = serializers.SerializerMethodField(help_text="Channels of it that nobody has made yet.")

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
    """Every channel that a route may tell."""
    return list(dict.fromkeys([*route.channels, *(name for step in route.escalation for name in step["channels"])]))


def shapes(routes: list[Route]) -> Any:
    """Routes as the API shows them; which channels there are is looked up for all at once."""
    named = {name for route in routes for name in channels_of(route)}
    known = set(Channel.objects.filter(name__in=named).values_list("name", flat=True))
    return RouteSerializer(routes, many=True, context={"channels": known}).data


class RouteParameters(PageParameters):
    enabled = maybe("Whether it is heeded.")
    search = text("Words in the name.")


class Routes(Filtered):
    routes = RouteSerializer(many=True)


class RoutesView(APIView):
    permission_classes = [MayConfigure]

    @operation(
        "list_alert_routes",
        "Which routes there are",
        tag=Tag.ALERTS,
        description="A page of routes by name, for those who operate.",
        query=RouteParameters,
        answer=Routes,
        asked={"enabled": True},
        answered={"routes": [examples.KNOWN_ROUTE], **examples.PAGE, "filters": {"enabled": "true"}},
    )
    def get(self, request: Request) -> Response:
        filters = asked(RouteParameters(data=request.query_params))
        lookups = {"name__icontains" if name == "search" else name: value for name, value in filters.items()}
        rows, counts = page(request, Route.objects.filter(**lookups), RouteParameters)
        return Response({"routes": shapes(rows), **counts, "filters": told(request, filters)})

    @operation(
        "create_alert_route",
        "Make a route",
        tag=Tag.ALERTS,
        description="Alerts that it fits go to its channels too, and on to those of its steps while nobody has"
        " acknowledged them.",
        request=RouteSerializer,
        answer=RouteSerializer,
        status=201,
        errors=(422,),
        parameters=[state(201)],
        asked=examples.ROUTE,
        answered=examples.KNOWN_ROUTE,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        fields = checked(RouteSerializer(data=request.data))
        with unique_name(), refusing():
            made = channel_lifecycle.create_route(fields, caller(request).name)
        return _answer(made, status.HTTP_201_CREATED)


class RouteView(APIView):
    permission_classes = [MayConfigure]

    @operation(
        "get_alert_route",
        "A route",
        tag=Tag.ALERTS,
        description="Which alerts it fits, and whom it tells.",
        answer=RouteSerializer,
        errors=(404,),
        parameters=[state()],
        answered=examples.KNOWN_ROUTE,
    )
    def get(self, request: Request, route_id: str) -> Response:
        return _answer(found_by(Route.objects.all(), route_id=route_id))

    @operation(
        "update_alert_route",
        "Change a route",
        tag=Tag.ALERTS,
        description="Fields that are not sent stay as they are.",
        request=RouteSerializer(partial=True),
        answer=RouteSerializer,
        errors=(404, 422),
        asked={"enabled": False},
        answered=examples.KNOWN_ROUTE | {"enabled": False},
        tagged=True,
    )
    def patch(self, request: Request, route_id: str) -> Response:
        fields = checked(RouteSerializer(data=request.data, partial=True))
        with unique_name(), refusing():
            found = found_by(Route.objects.select_for_update(), route_id=route_id)
            check_match(request, found)
            changed = channel_lifecycle.change_route(found, fields)
        return _answer(changed)

    @operation(
        "delete_alert_route",
        "Delete a route",
        tag=Tag.ALERTS,
        description="Alerts go to the channels of their rules alone, and to those of other routes.",
        answer=Done,
        errors=(404,),
        answered={"success": True, "message": "nights is deleted"},
        tagged=True,
    )
    def delete(self, request: Request, route_id: str) -> Response:
        with transaction.atomic():
            found = found_by(Route.objects.select_for_update(), route_id=route_id)
            check_match(request, found)
            found.delete()
        return Response({"success": True, "message": f"{found.name} is deleted"})


def _answer(route: Route, code: int = status.HTTP_200_OK) -> Response:
    return Response(shapes([route])[0], code, headers={"ETag": etag(route)})
