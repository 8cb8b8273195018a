"""REST resources of the incidents and the planned maintenance of status pages, with their updates."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from dashboard.status_page import incidents
from dashboard.status_page.api import examples
from dashboard.status_page.api.pages import OfPage
from dashboard.status_page.models import (
    ID_LENGTH,
    MAX_TEXT_LENGTH,
    STATUSES,
    Impact,
    IncidentKind,
    StatusComponent,
    StatusIncident,
    StatusUpdate,
)
from rest.fields import ChoiceField, StrictSerializer, name_field
from rest.filters import ChoiceFilter, FilterSet
from rest.idempotency import idempotent
from rest.openapi import Tag, operation
from rest.resources import Action, describe, validate_body
from rest.responses import page_example

MAX_COMPONENTS = 1000


def _choices(kind: IncidentKind) -> list[tuple[str, str]]:
    return [(one.value, one.label) for one in STATUSES[kind]]


IMPACTS = [(impact.value, impact.label) for impact in Impact if impact != Impact.MAINTENANCE]


class StatusUpdateSerializer(StrictSerializer, serializers.ModelSerializer[StatusUpdate]):
    text = serializers.CharField(
        allow_blank=True, required=False, max_length=MAX_TEXT_LENGTH, help_text="Public message."
    )

    class Meta:
        model = StatusUpdate
        fields = ("update_id", "status", "text", "at", "created_by")
        read_only_fields = ("update_id", "at", "created_by")


class IncidentUpdateSerializer(StatusUpdateSerializer):
    status = ChoiceField(_choices(IncidentKind.INCIDENT), help_text="New status, or the present one.")


class MaintenanceUpdateSerializer(StatusUpdateSerializer):
    status = ChoiceField(_choices(IncidentKind.MAINTENANCE), help_text="New status, or the present one.")


class _BaseSerializer(StrictSerializer, serializers.ModelSerializer[StatusIncident]):
    title = name_field(help_text="Public title.")
    text = serializers.CharField(
        allow_blank=True,
        required=False,
        write_only=True,
        max_length=MAX_TEXT_LENGTH,
        help_text="Message of the first update; later ones are added to `updates`.",
    )
    component_ids = serializers.ListField(
        child=serializers.CharField(max_length=ID_LENGTH),
        max_length=MAX_COMPONENTS,
        required=False,
        write_only=True,
        help_text="Affected components of the page; empty: none in particular.",
    )
    updates = StatusUpdateSerializer(many=True, read_only=True, help_text="The newest first.")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if self.instance is not None and "text" in attributes:
            raise serializers.ValidationError({"text": "cannot be changed: add an update"})
        if "component_ids" in attributes:
            attributes["components"] = self._find_components(attributes.pop("component_ids"))
        return attributes

    def _find_components(self, component_ids: list[str]) -> list[StatusComponent]:
        page = self.context["view"].status_page
        found = list(page.components.filter(component_id__in=component_ids))
        if missing := set(component_ids) - {component.component_id for component in found}:
            detail = f"{min(missing)} is not a component of this page"
            raise serializers.ValidationError({"component_ids": detail})
        return found

    def to_representation(self, instance: StatusIncident) -> dict[str, Any]:
        shown: dict[str, Any] = super().to_representation(instance)
        return shown | {"component_ids": [component.component_id for component in instance.components.all()]}


class StatusIncidentSerializer(_BaseSerializer):
    status = ChoiceField(
        _choices(IncidentKind.INCIDENT), required=False, help_text="Of the first update; `investigating` by default."
    )
    impact = ChoiceField(
        IMPACTS, required=False, help_text="State of the affected components: minor is degraded, major an outage."
    )
    starts_at = serializers.DateTimeField(required=False, help_text="When it began; now by default.")

    class Meta:
        model = StatusIncident
        fields = (
            "incident_id", "title", "status", "impact", "component_ids", "starts_at", "closed_at", "text", "updates",
            "created_by", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = ("incident_id", "closed_at", "created_by", "created_at", "updated_at")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if self.instance is not None and "status" in attributes:
            raise serializers.ValidationError({"status": "cannot be changed: add an update"})
        return super().validate(attributes)


class StatusMaintenanceSerializer(_BaseSerializer):
    starts_at = serializers.DateTimeField(help_text="Planned start.")
    ends_at = serializers.DateTimeField(help_text="Planned end, at most 366 days after the start.")

    class Meta:
        model = StatusIncident
        fields = (
            "incident_id", "title", "status", "component_ids", "starts_at", "ends_at", "closed_at", "text", "updates",
            "created_by", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = ("incident_id", "status", "closed_at", "created_by", "created_at", "updated_at")


class StatusIncidentFilters(FilterSet):
    status = ChoiceFilter(choices=_choices(IncidentKind.INCIDENT), help_text="Status.")


class StatusMaintenanceFilters(FilterSet):
    status = ChoiceFilter(choices=_choices(IncidentKind.MAINTENANCE), help_text="Status.")


class _IncidentResource(OfPage):
    lookup_field = "incident_id"
    kind: ClassVar[IncidentKind]
    update_serializer: ClassVar[type[StatusUpdateSerializer]]

    def get_queryset(self) -> QuerySet[StatusIncident]:
        return self.status_page.incidents.filter(kind=self.kind).prefetch_related("updates", "components")

    def perform_create(self, serializer: Any) -> StatusIncident:
        return incidents.create_incident(self.status_page, self.kind, serializer.validated_data, self.caller)

    def perform_update(self, serializer: Any) -> StatusIncident:
        return incidents.change_incident(serializer.instance, serializer.validated_data)

    def perform_destroy(self, row: StatusIncident) -> None:
        incidents.delete_incident(row)

    def _add_update(self, request: Request) -> Response:
        fields = validate_body(self.update_serializer(data=request.data))
        update = incidents.add_update(self.get_object(), fields["status"], fields.get("text", ""), self.caller)
        return Response(self.update_serializer(update).data, status.HTTP_201_CREATED)


@describe(
    Tag.STATUS_PAGES,
    list=Action(
        "list_status_incidents",
        "List the incidents of a status page",
        "Returns a page of its incidents, the newest first.",
        request={"status": "investigating"},
        response=page_example("incidents", examples.CREATED_INCIDENT),
    ),
    create=Action(
        "create_status_incident",
        "Publish an incident on a status page",
        "Subscribers of the affected components are notified.",
        request=examples.INCIDENT,
        response=examples.CREATED_INCIDENT,
    ),
    retrieve=Action(
        "get_status_incident",
        "Get an incident of a status page",
        "Returns the incident with its updates.",
        response=examples.CREATED_INCIDENT,
    ),
    partial_update=Action(
        "update_status_incident",
        "Change an incident of a status page",
        "Changes title, impact, start and components; nobody is notified. The status changes with an update.",
        request={"impact": "major"},
        response=examples.CREATED_INCIDENT | {"impact": "major"},
    ),
    destroy=Action(
        "delete_status_incident",
        "Delete an incident of a status page",
        "Its updates are deleted too; unsent notifications are not sent.",
        response={"success": True, "message": "Delayed readings is deleted"},
    ),
)
class StatusIncidentResource(_IncidentResource):
    serializer_class = StatusIncidentSerializer
    update_serializer = IncidentUpdateSerializer
    filterset_class = StatusIncidentFilters
    rows_field = "incidents"
    page_name = "StatusIncidents"
    kind = IncidentKind.INCIDENT

    @operation(
        "add_status_incident_update",
        "Publish an update of an incident",
        tag=Tag.STATUS_PAGES,
        description="Each subscriber of the affected components is notified once. `resolved` ends the incident.",
        request=IncidentUpdateSerializer,
        response=IncidentUpdateSerializer,
        status=201,
        errors=(404,),
        request_example=examples.UPDATE,
        response_example=examples.CREATED_UPDATE,
    )
    @idempotent
    def add_update(self, request: Request, **names: Any) -> Response:
        return self._add_update(request)


@describe(
    Tag.STATUS_PAGES,
    list=Action(
        "list_status_maintenances",
        "List the planned maintenance of a status page",
        "Returns a page of planned, running and completed maintenance, the latest start first.",
        request={"status": "scheduled"},
        response=page_example("maintenances", examples.CREATED_MAINTENANCE),
    ),
    create=Action(
        "create_status_maintenance",
        "Plan maintenance on a status page",
        "The page shows it at once. Subscribers are notified now, at the start and at the end, once each. It does not"
        " pause notifications of alerts: for that, create a silence.",
        request=examples.MAINTENANCE,
        response=examples.CREATED_MAINTENANCE,
    ),
    retrieve=Action(
        "get_status_maintenance",
        "Get planned maintenance of a status page",
        "Returns the maintenance with its updates.",
        response=examples.CREATED_MAINTENANCE,
    ),
    partial_update=Action(
        "update_status_maintenance",
        "Change planned maintenance of a status page",
        "Changes title, times and components; nobody is notified.",
        request={"ends_at": "2025-12-20T23:00:00Z"},
        response=examples.CREATED_MAINTENANCE | {"ends_at": "2025-12-20T23:00:00Z"},
    ),
    destroy=Action(
        "delete_status_maintenance",
        "Delete planned maintenance of a status page",
        "Its updates are deleted too; its time counts in the uptime without maintenance again.",
        response={"success": True, "message": "New network is deleted"},
    ),
)
class StatusMaintenanceResource(_IncidentResource):
    serializer_class = StatusMaintenanceSerializer
    update_serializer = MaintenanceUpdateSerializer
    filterset_class = StatusMaintenanceFilters
    rows_field = "maintenances"
    page_name = "StatusMaintenances"
    kind = IncidentKind.MAINTENANCE

    @operation(
        "add_status_maintenance_update",
        "Publish an update of maintenance",
        tag=Tag.STATUS_PAGES,
        description="Each subscriber of the affected components is notified once. `completed` ends the maintenance.",
        request=MaintenanceUpdateSerializer,
        response=MaintenanceUpdateSerializer,
        status=201,
        errors=(404,),
        request_example={"status": "completed", "text": "Done."},
        response_example=examples.CREATED_UPDATE | {"status": "completed", "text": "Done."},
    )
    @idempotent
    def add_update(self, request: Request, **names: Any) -> Response:
        return self._add_update(request)
