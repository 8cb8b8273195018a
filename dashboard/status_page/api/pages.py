"""REST resources of status pages and their components. Scope `operate`; a page must concern visible devices only."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from alerts.api.filters import EXACT_TEXT
from dashboard.status_page import lifecycle
from dashboard.status_page.api import examples
from dashboard.status_page.models import (
    ID_LENGTH,
    MAX_TEXT_LENGTH,
    StateMode,
    StatusComponent,
    StatusPage,
)
from dashboard.status_page.visibility import visible_pages
from rest.fields import ChoiceField, StrictSerializer, TagsField, name_field, names_field
from rest.filters import BooleanFilter, FilterSet, SearchFilter
from rest.openapi import Tag
from rest.resources import Action, Resource, describe, get_row
from rest.responses import page_example


class StatusPageSerializer(StrictSerializer, serializers.ModelSerializer[StatusPage]):
    slug = serializers.CharField(help_text="Part of the address: /status/SLUG/.")
    host_name = serializers.CharField(
        allow_null=True, required=False, help_text="Host name that shows the page at its root; null: none."
    )
    title = name_field(help_text="Public title.")
    text = serializers.CharField(
        allow_blank=True, required=False, max_length=MAX_TEXT_LENGTH, help_text="Public text below the title."
    )
    time_zone = serializers.CharField(required=False, help_text="Time zone of the page, such as Europe/Berlin.")

    class Meta:
        model = StatusPage
        fields = (
            "page_id", "slug", "host_name", "title", "text", "published", "time_zone", "created_by", "created_at",
            "updated_at",
        )  # fmt: skip
        read_only_fields = ("page_id", "created_by", "created_at", "updated_at")


class StatusPageFilters(FilterSet):
    published = BooleanFilter(help_text="Whether the page is published.")
    search = SearchFilter("title__icontains", "slug__icontains", help_text="Text in title or slug.", **EXACT_TEXT)


@describe(
    Tag.STATUS_PAGES,
    list=Action(
        "list_status_pages",
        "List status pages",
        "Returns a page of the status pages whose components concern devices and rules that the caller sees.",
        request={"published": True},
        response=page_example("pages", examples.CREATED_PAGE),
    ),
    create=Action(
        "create_status_page",
        "Create a status page",
        "A new page is not published and has no components.",
        request=examples.PAGE,
        response=examples.CREATED_PAGE,
    ),
    retrieve=Action(
        "get_status_page", "Get a status page", "Returns the settings of the page.", response=examples.CREATED_PAGE
    ),
    partial_update=Action(
        "update_status_page",
        "Change a status page",
        "Publish it with `published`. Another time zone computes the past days anew.",
        request={"published": True},
        response=examples.CREATED_PAGE | {"published": True},
    ),
    destroy=Action(
        "delete_status_page",
        "Delete a status page",
        "Its components, incidents and subscribers are deleted too.",
        response={"success": True, "message": "Example status is deleted"},
    ),
)
class StatusPageResource(Resource):
    serializer_class = StatusPageSerializer
    filterset_class = StatusPageFilters
    lookup_field = "page_id"
    rows_field = "pages"
    page_name = "StatusPages"
    cacheable = True
    read_scope = "operate"
    write_scope = "operate"
    unique_error = ("slug", "is taken")

    def get_queryset(self) -> QuerySet[StatusPage]:
        return visible_pages(self.caller)

    def perform_create(self, serializer: Any) -> StatusPage:
        return lifecycle.create_page(serializer.validated_data, self.caller)

    def perform_update(self, serializer: Any) -> StatusPage:
        return lifecycle.change_page(serializer.instance, serializer.validated_data)

    def perform_destroy(self, row: StatusPage) -> None:
        lifecycle.delete_page(row)


class OfPage(Resource):
    """Base of the resources in a status page."""

    write_scope = "operate"
    read_scope = "operate"
    unique_error = None
    cacheable = True
    is_nested = True

    @property
    def status_page(self) -> StatusPage:
        """Return the page in the URL. Raises NotFound."""
        page: StatusPage = get_row(visible_pages(self.caller), page_id=self.kwargs["page_id"])
        return page


class StatusComponentSerializer(StrictSerializer, serializers.ModelSerializer[StatusComponent]):
    name = name_field(help_text="Public name.")
    description = serializers.CharField(
        allow_blank=True, required=False, max_length=MAX_TEXT_LENGTH, help_text="Public description."
    )
    parent_id = serializers.CharField(
        source="parent.component_id", allow_null=True, required=False, max_length=ID_LENGTH,
        help_text="The group that contains the component; null: none.",
    )  # fmt: skip
    device_groups = names_field("Device groups whose alerts measure the component.", lifecycle.MAX_NAMES)
    rule_ids = names_field("Alert rules whose alerts measure it.", lifecycle.MAX_NAMES)
    tags = TagsField(required=False, help_text="Tags of devices whose alerts measure it; all must match.")
    mode = ChoiceField(
        StateMode.choices,
        required=False,
        help_text="`worst`: state of the worst alert, or component of a group; `share`: by the affected share.",
    )

    class Meta:
        model = StatusComponent
        fields = (
            "component_id", "name", "description", "parent_id", "position", "device_groups", "rule_ids", "tags", "mode",
            "partial_percent", "major_percent", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = ("component_id", "created_at", "updated_at")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if "parent" in attributes:
            attributes["parent"] = self._find_parent(attributes["parent"]["component_id"])
        return attributes

    def _find_parent(self, component_id: str | None) -> StatusComponent | None:
        if component_id is None:
            return None
        page: StatusPage = self.context["view"].status_page
        parent = page.components.filter(component_id=component_id).first()
        if parent is None:
            raise serializers.ValidationError({"parent_id": "must be a component of this page, or null"})
        return parent


@describe(
    Tag.STATUS_PAGES,
    list=Action(
        "list_status_components",
        "List the components of a status page",
        "Returns a page of its components by position; `parent_id` makes the tree.",
        response=page_example("components", examples.CREATED_COMPONENT),
    ),
    create=Action(
        "create_status_component",
        "Add a component to a status page",
        "A component is measured by the alerts that match each of `device_groups`, `rule_ids` and `tags` that is not"
        " empty; without any, it is a group of components. Components may be nested five levels deep.",
        request=examples.COMPONENT,
        response=examples.CREATED_COMPONENT,
    ),
    retrieve=Action(
        "get_status_component",
        "Get a component of a status page",
        "Returns what it is measured by; its state is in the public documents of the page.",
        response=examples.CREATED_COMPONENT,
    ),
    partial_update=Action(
        "update_status_component",
        "Change a component of a status page",
        "Omitted fields keep their values. What it is measured by applies to its past days too.",
        request={"mode": "share"},
        response=examples.CREATED_COMPONENT | {"mode": "share"},
    ),
    destroy=Action(
        "delete_status_component",
        "Delete a component of a status page",
        "Components in it are deleted too.",
        response={"success": True, "message": "Room readings is deleted"},
    ),
)
class StatusComponentResource(OfPage):
    serializer_class = StatusComponentSerializer
    lookup_field = "component_id"
    rows_field = "components"
    page_name = "StatusComponents"

    def get_queryset(self) -> QuerySet[StatusComponent]:
        return self.status_page.components.select_related("parent")

    def perform_create(self, serializer: Any) -> StatusComponent:
        return lifecycle.create_component(self.status_page, serializer.validated_data, self.caller)

    def perform_update(self, serializer: Any) -> StatusComponent:
        return lifecycle.change_component(serializer.instance, serializer.validated_data, self.caller)

    def perform_destroy(self, row: StatusComponent) -> None:
        lifecycle.delete_component(row)
