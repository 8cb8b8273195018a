"""PRD E2: metric definitions. What is changed here holds in every process within a second."""

from typing import Any

import django_filters
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import UniqueValidator
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.answers import Done, Page
from metrics.models import LONGEST_RETENTION_DAYS, NAME_LENGTH, DataType, MetricDefinition, MetricType
from rest.configuration import printable
from rest.etags import check_match, tagged
from rest.idempotency import idempotent
from rest.openapi import Tag, operation
from rest.pagination import PageParameters, page

MOST_TAGS = 100
DEFINED = "a metric of this name is defined already"


class ChoiceField(serializers.ChoiceField):
    """One of some words; whoever sends another is told which there are."""

    def __init__(self, choices: Any, **more: Any) -> None:
        accepted = ", ".join(value for value, _ in choices)
        super().__init__(choices, error_messages={"invalid_choice": f"{accepted} are accepted"}, **more)


def _days(**more: Any) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=1, max_value=LONGEST_RETENTION_DAYS, required=False, **more)


@extend_schema_serializer(component_name="MetricDefinition")
class DefinitionSerializer(serializers.ModelSerializer[MetricDefinition]):
    name = serializers.CharField(
        max_length=NAME_LENGTH,
        trim_whitespace=False,
        validators=[
            printable,
            UniqueValidator(MetricDefinition.objects.all(), DEFINED),
        ],
    )
    description = serializers.CharField(max_length=10_000, allow_blank=True, required=False)
    data_type = ChoiceField(DataType.choices)
    metric_type = ChoiceField(MetricType.choices, required=False)
    retention_days = _days()
    rollup_5m_days = _days()
    rollup_1h_days = _days()
    tags = serializers.ListField(
        child=serializers.CharField(max_length=NAME_LENGTH), max_length=MOST_TAGS, required=False
    )
    metadata = serializers.DictField(required=False)

    class Meta:
        model = MetricDefinition
        fields = (
            "metric_id", "name", "description", "data_type", "metric_type", "unit", "min_value", "max_value",
            "retention_days", "rollup_5m_days", "rollup_1h_days", "aggregation_interval", "tags", "metadata",
            "created_at", "updated_at", "created_by",
        )  # fmt: skip
        read_only_fields = ("metric_id", "created_at", "updated_at", "created_by")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(map(str, self.initial_data)) - set(self.fields))
        if unknown:
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not known"))
        whole = {name: getattr(self.instance, name) for name in _TOGETHER} if self.instance else dict(_UNSET)
        whole |= attributes
        if self.instance is not None and whole.get("name", self.instance.name) != self.instance.name:
            raise serializers.ValidationError({"name": "cannot be changed: points are stored under it"})
        low, high = whole["min_value"], whole["max_value"]
        if (low is not None or high is not None) and whole["data_type"] != DataType.NUMERIC:
            field = "max_value" if low is None else "min_value"
            raise serializers.ValidationError({field: "bounds are for numeric metrics"})
        if low is not None and high is not None and low > high:
            raise serializers.ValidationError({"min_value": "must not be above max_value"})
        if whole["rollup_1h_days"] < whole["rollup_5m_days"]:
            raise serializers.ValidationError({"rollup_1h_days": "must not be less than rollup_5m_days"})
        return attributes


_TOGETHER = ("data_type", "min_value", "max_value", "rollup_5m_days", "rollup_1h_days")
_UNSET = {name: getattr(MetricDefinition(), name) for name in _TOGETHER}


class DefinitionFilter(django_filters.FilterSet):
    data_type = django_filters.ChoiceFilter(choices=DataType.choices)
    metric_type = django_filters.ChoiceFilter(choices=MetricType.choices)
    search = django_filters.CharFilter(method="containing")

    class Meta:
        model = MetricDefinition
        fields = ("data_type", "metric_type", "unit")

    def containing(self, found: QuerySet[MetricDefinition], name: str, words: str) -> QuerySet[MetricDefinition]:
        """Those in whose name or description these words occur."""
        return found.filter(Q(name__icontains=words) | Q(description__icontains=words))


class DefinitionParameters(PageParameters):
    """What a list of definitions is chosen by, for the description of the API; DefinitionFilter heeds it."""

    data_type = serializers.ChoiceField(DataType.choices, required=False, help_text="Of this data type.")
    metric_type = serializers.ChoiceField(MetricType.choices, required=False, help_text="Of this metric type.")
    unit = serializers.CharField(required=False, help_text="Exactly this unit.")
    search = serializers.CharField(required=False, help_text="Words in the name or the description.")


class MetricDefinitions(Page):
    metrics = DefinitionSerializer(many=True)
    filters = serializers.DictField(
        child=serializers.CharField(allow_null=True), help_text="What was asked for; null where it was not."
    )


class DefinitionsView(APIView):
    """E2-US1 and E2-US2: define a metric; which are defined."""

    scope_for_changes = "admin"

    @operation(
        "list_metrics",
        "Which metrics are defined",
        tag=Tag.DEFINITIONS,
        description="A page of definitions by name, with what it was filtered by.",
        query=DefinitionParameters,
        answer=MetricDefinitions,
        asked={"data_type": "numeric", "limit": 100},
        answered=examples.DEFINITIONS,
    )
    def get(self, request: Request) -> Response:
        chosen = DefinitionFilter(request.query_params, MetricDefinition.objects.all())
        if not chosen.is_valid():
            raise serializers.ValidationError(chosen.errors)
        rows, told = page(request, chosen.qs)
        filters = {name: request.query_params.get(name) for name in chosen.filters}
        return Response({"metrics": DefinitionSerializer(rows, many=True).data, **told, "filters": filters})

    @operation(
        "create_metric",
        "Define a metric",
        tag=Tag.DEFINITIONS,
        description="From now on its points are held to the type and the bounds, and kept as long as it says.",
        request=DefinitionSerializer,
        answer=DefinitionSerializer,
        status=201,
        asked=examples.DEFINITION,
        answered=examples.DEFINED,
        tagged=True,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        given = DefinitionSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        try:
            with transaction.atomic():
                made = given.save(created_by=request.user.get_username())
        except IntegrityError:  # somebody else defined it between the check and here
            raise serializers.ValidationError({"name": DEFINED}) from None
        return tagged(request, made, DefinitionSerializer(made).data, status.HTTP_201_CREATED)


class DefinitionView(APIView):
    """E2-US3 and E2-US4: one definition. Deleting it keeps the data of the metric, from then on by the defaults."""

    scope_for_changes = "admin"

    @operation(
        "get_metric",
        "The definition of a metric",
        tag=Tag.DEFINITIONS,
        description="Everything that is known of the metric beforehand.",
        answer=DefinitionSerializer,
        errors=(404,),
        answered=examples.DEFINED,
        tagged=True,
    )
    def get(self, request: Request, metric_name: str) -> Response:
        found = _named(MetricDefinition.objects.all(), metric_name)
        return tagged(request, found, DefinitionSerializer(found).data)

    @operation(
        "update_metric",
        "Change the definition of a metric",
        tag=Tag.DEFINITIONS,
        description="Fields that are not sent stay as they are. The name cannot be changed.",
        request=DefinitionSerializer(partial=True),
        answer=DefinitionSerializer,
        errors=(404,),
        asked={"max_value": 100, "retention_days": 365},
        answered=examples.DEFINED | {"retention_days": 365},
        tagged=True,
    )
    def patch(self, request: Request, metric_name: str) -> Response:
        with transaction.atomic():
            found = _named(MetricDefinition.objects.select_for_update(), metric_name)
            check_match(request, found)
            given = DefinitionSerializer(found, data=request.data, partial=True)
            given.is_valid(raise_exception=True)
            changed = given.save()
        return tagged(request, changed, DefinitionSerializer(changed).data)

    @operation(
        "delete_metric",
        "Delete the definition of a metric",
        tag=Tag.DEFINITIONS,
        description="The points of the metric stay, from then on kept by the defaults.",
        answer=Done,
        errors=(404,),
        answered={"success": True, "message": "the definition of battery_level is deleted; its data stays"},
        tagged=True,
    )
    def delete(self, request: Request, metric_name: str) -> Response:
        with transaction.atomic():
            found = _named(MetricDefinition.objects.select_for_update(), metric_name)
            check_match(request, found)
            found.delete()
        return Response({"success": True, "message": f"the definition of {metric_name} is deleted; its data stays"})


def _named(among: QuerySet[MetricDefinition], metric_name: str) -> MetricDefinition:
    found = among.filter(name=metric_name).first()
    if found is None:
        raise NotFound(f"{metric_name} is not defined")
    return found
