"""PRD E2: metric definitions. A change applies before it is answered."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.validators import UniqueValidator

from metrics.api import examples
from metrics.models import LONGEST_RETENTION_DAYS, NAME_LENGTH, DataType, MetricDefinition, MetricType
from rest.errors import InvalidField
from rest.fields import ChoiceField, MetadataField, NewName, StrictSerializer, validate_printable
from rest.filters import ChoiceFilter, FilterSet, SearchFilter, TextFilter
from rest.names import id_error
from rest.openapi import Tag
from rest.resources import Action, Resource, describe

MAX_TAGS = 100
NAME_TAKEN = "a metric of this name is already defined"


def _days(**options: Any) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=1, max_value=LONGEST_RETENTION_DAYS, required=False, **options)


@extend_schema_serializer(component_name="MetricDefinition")
class DefinitionSerializer(StrictSerializer, serializers.ModelSerializer[MetricDefinition]):
    name = serializers.CharField(
        max_length=NAME_LENGTH,
        trim_whitespace=False,
        validators=[validate_printable, NewName(id_error), UniqueValidator(MetricDefinition.objects.all(), NAME_TAKEN)],
    )
    description = serializers.CharField(max_length=10_000, allow_blank=True, required=False)
    data_type = ChoiceField(DataType.choices)
    metric_type = ChoiceField(MetricType.choices, required=False)
    retention_days = _days()
    rollup_5m_days = _days()
    rollup_1h_days = _days()
    tags = serializers.ListField(
        child=serializers.CharField(max_length=NAME_LENGTH), max_length=MAX_TAGS, required=False
    )
    metadata = MetadataField(required=False)

    class Meta:
        model = MetricDefinition
        fields = (
            "metric_id", "name", "description", "data_type", "metric_type", "unit", "min_value", "max_value",
            "retention_days", "rollup_5m_days", "rollup_1h_days", "aggregation_interval", "tags", "metadata",
            "created_at", "updated_at", "created_by",
        )  # fmt: skip
        read_only_fields = ("metric_id", "created_at", "updated_at", "created_by")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        definition = self.instance or MetricDefinition()
        result = {name: getattr(definition, name) for name in _RELATED_FIELDS} | attributes
        if self.instance is not None and result.get("name", self.instance.name) != self.instance.name:
            raise serializers.ValidationError({"name": "cannot be changed: points are stored under it"})
        low, high = result["min_value"], result["max_value"]
        if (low is not None or high is not None) and result["data_type"] != DataType.NUMERIC:
            field = "max_value" if low is None else "min_value"
            raise InvalidField(field, "requires data_type numeric")
        if low is not None and high is not None and low > high:
            raise InvalidField("min_value", "must not be greater than max_value")
        if result["rollup_1h_days"] < result["rollup_5m_days"]:
            raise InvalidField("rollup_1h_days", "must not be less than rollup_5m_days")
        return attributes


_RELATED_FIELDS = ("data_type", "min_value", "max_value", "rollup_5m_days", "rollup_1h_days")


class DefinitionFilters(FilterSet):
    data_type = ChoiceFilter(choices=DataType.choices, help_text="Data type.")
    metric_type = ChoiceFilter(choices=MetricType.choices, help_text="Metric type.")
    unit = TextFilter(help_text="Unit, exactly as defined.")
    search = SearchFilter("name__icontains", "description__icontains", help_text="Text in the name or description.")


@describe(
    Tag.DEFINITIONS,
    list=Action(
        "list_metrics",
        "List metric definitions",
        "Returns a page of metric definitions, sorted by name.",
        request={"data_type": "numeric", "limit": 100},
        response=examples.DEFINITIONS,
    ),
    create=Action(
        "create_metric",
        "Create a metric definition",
        "New points of the metric are validated against the data type and the bounds, and kept for the retention time.",
        request=examples.DEFINITION,
        response=examples.CREATED_DEFINITION,
    ),
    retrieve=Action(
        "get_metric",
        "Get a metric definition",
        "Returns the definition of one metric.",
        response=examples.CREATED_DEFINITION,
    ),
    partial_update=Action(
        "update_metric",
        "Change a metric definition",
        "Omitted fields keep their values. The name cannot be changed.",
        request={"max_value": 100, "retention_days": 365},
        response=examples.CREATED_DEFINITION | {"retention_days": 365},
    ),
    destroy=Action(
        "delete_metric",
        "Delete a metric definition",
        "Stored points of the metric are kept, from then on with the default retention.",
        response={"success": True, "message": "the definition of battery_level is deleted; its data stays"},
    ),
)
class DefinitionResource(Resource):
    serializer_class = DefinitionSerializer
    filterset_class = DefinitionFilters
    lookup_field = "name"
    lookup_url_kwarg = "metric_name"
    rows_field = "metrics"
    page_name = "MetricDefinitions"
    echo_filters = "all"
    cacheable = True
    unique_error = ("name", NAME_TAKEN)
    not_found_message = "{} is not defined"

    def get_queryset(self) -> QuerySet[MetricDefinition]:
        """Return all definitions, which belong to no device group; none to a caller without any group."""
        return MetricDefinition.objects.all() if self.caller.sees_some else MetricDefinition.objects.none()

    def perform_create(self, serializer: Any) -> MetricDefinition:
        definition: MetricDefinition = serializer.save(created_by=self.request.user.get_username())
        return definition

    def deleted_message(self, row: MetricDefinition) -> str:
        return f"the definition of {row.name} is deleted; its data stays"
