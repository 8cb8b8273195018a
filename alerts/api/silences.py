"""Silences and maintenance windows. Scope `operate` manages those of the devices that the caller sees."""

from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts import recurring_windows, silences
from alerts.api import examples
from alerts.api.alert_serializers import AlertSerializer
from alerts.api.fields import MAX_NAMES, WeeklyField, levels_field
from alerts.api.filters import EXACT_TEXT
from alerts.models import Silence, SilenceKind
from alerts.visibility import narrow_silences, visible_silences
from rest.fields import ChoiceField, StrictSerializer, names_field
from rest.filters import BooleanFilter, ChoiceFilter, FilterSet, TextFilter
from rest.openapi import Tag, operation
from rest.pagination import COUNT_LIMIT, PageQuerySerializer, page
from rest.permissions import caller
from rest.resources import Action, Resource, describe, validate_body
from rest.responses import PageSerializer, page_example

PREVIEW_PERIOD = timedelta(days=7)


class _MatchSerializer(StrictSerializer):
    """Which alerts a silence matches: those in every list that is not empty."""

    device_ids = names_field("Device IDs.", MAX_NAMES)
    device_groups = names_field("Device groups.", MAX_NAMES)
    metric_names = names_field("Metric names.", MAX_NAMES)
    rule_ids = names_field("Rule IDs.", MAX_NAMES)
    levels = levels_field("Alert levels.")
    alert_id = serializers.CharField(
        max_length=24, allow_blank=True, required=False, help_text="Only this alert, until it is resolved."
    )
    weekly = WeeklyField(
        allow_null=True, required=False, help_text="Recurring window in which the silence applies; null: always."
    )


@extend_schema_serializer(component_name="Silence")
class SilenceSerializer(_MatchSerializer, serializers.ModelSerializer[Silence]):
    kind = ChoiceField(SilenceKind.choices, required=False)
    starts_at = serializers.DateTimeField(default_timezone=UTC, required=False, help_text="Start; now by default.")
    ends_at = serializers.DateTimeField(
        default_timezone=UTC, help_text=f"End, at most {silences.MAX_DURATION.days} days after the start."
    )
    reason = serializers.CharField(max_length=silences.MAX_REASON_LENGTH, help_text="Reason, shown to other people.")
    other_devices = serializers.BooleanField(
        read_only=True,
        help_text="Whether the silence also concerns devices that the caller does not see; their names are left out.",
    )
    active = serializers.SerializerMethodField(help_text="Whether the silence applies now.")

    class Meta:
        model = Silence
        fields = (
            "silence_id", *silences.SILENCE_FIELDS, "active", "other_devices", "created_by", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = ("silence_id", "created_by", "created_at", "updated_at")

    def get_active(self, silence: Silence) -> bool:
        now = timezone.now()
        return silence.starts_at <= now < silence.ends_at and recurring_windows.is_active(silence.weekly, now)


class SilenceFilters(FilterSet):
    active = BooleanFilter(method="filter_active", help_text="Whether the silence has started and not ended.")
    device_id = TextFilter(method="filter_device_id", help_text="Device ID that the silence names.", **EXACT_TEXT)
    owner = TextFilter("created_by", help_text="Creator of the silence.", **EXACT_TEXT)
    kind = ChoiceFilter(choices=SilenceKind.choices, help_text="Silence kind.")

    def filter_active(self, queryset: QuerySet[Silence], _: str, active: bool) -> QuerySet[Silence]:
        now = timezone.now()
        period = {"starts_at__lte": now, "ends_at__gt": now}
        return queryset.filter(**period) if active else queryset.exclude(**period)

    def filter_device_id(self, queryset: QuerySet[Silence], _: str, device_id: str) -> QuerySet[Silence]:
        return queryset.filter(device_ids__contains=[device_id])


@describe(
    Tag.ALERTS,
    list=Action(
        "list_silences",
        "List silences",
        "Returns a page of the silences that affect devices the caller sees, sorted by end, latest first.",
        request={"active": True},
        response=page_example("silences", examples.CREATED_SILENCE, filters={"active": "true"}),
    ),
    create=Action(
        "create_silence",
        "Create a silence",
        "Matching alerts are opened and shown as usual but send no notifications. Channels that were notified of an"
        " alert before are still notified when it is resolved.",
        request=examples.SILENCE,
        response=examples.CREATED_SILENCE,
    ),
    retrieve=Action(
        "get_silence",
        "Get a silence",
        "Returns what the silence matches, its period and its reason.",
        response=examples.CREATED_SILENCE,
    ),
    partial_update=Action(
        "update_silence",
        "Change a silence",
        "Omitted fields keep their values.",
        request={"ends_at": "2025-12-18T20:00:00Z"},
        response=examples.CREATED_SILENCE | {"ends_at": "2025-12-18T20:00:00Z"},
    ),
    destroy=Action(
        "end_silence",
        "End a silence",
        "Ends the silence now and keeps it in the list. Open alerts that it muted send their notifications.",
        response=examples.CREATED_SILENCE | {"active": False},
    ),
)
class SilenceResource(Resource):
    serializer_class = SilenceSerializer
    filterset_class = SilenceFilters
    lookup_field = "silence_id"
    rows_field = "silences"
    echo_filters = "sent"
    write_scope = "operate"
    unique_error = None
    deleted_serializer_class = SilenceSerializer

    def requested_devices(self, request: Request) -> list[str | None]:
        return [request.query_params.get("device_id") if self.action == "list" else None]

    def get_queryset(self) -> QuerySet[Silence]:
        return visible_silences(self.caller)

    def represent(self, rows: Sequence[Silence], query: PageQuerySerializer | None = None) -> Any:
        narrow_silences(rows, self.caller)
        return super().represent(rows, query)

    def perform_create(self, serializer: Any) -> Silence:
        return silences.create_silence(serializer.validated_data, self.caller)

    def perform_update(self, serializer: Any) -> Silence:
        return silences.change_silence(serializer.instance, serializer.validated_data, self.caller)

    def perform_destroy(self, row: Silence) -> Silence:
        return silences.end_silence(row, self.caller)

    def respond_deleted(self, row: Silence, result: Silence) -> Response:
        return self.respond(result)


class SilencePreviewSerializer(_MatchSerializer):
    since = serializers.DateTimeField(
        default_timezone=UTC,
        required=False,
        help_text=f"Start of the previewed period; {PREVIEW_PERIOD.days} days ago by default.",
    )


@extend_schema_serializer(component_name="Previewed")
class SilencePreviewPageSerializer(PageSerializer):
    alerts = AlertSerializer(many=True)


class SilencePreviewView(APIView):
    @operation(
        "preview_silence",
        "Preview a silence",
        tag=Tag.ALERTS,
        description="Returns a page of past alerts that the silence would have muted, of devices the caller sees,"
        " latest"
        f" first. `total` is at most {COUNT_LIMIT:,}.",
        query=PageQuerySerializer,
        request=SilencePreviewSerializer,
        response=SilencePreviewPageSerializer,
        errors=(422,),
        request_example={"device_groups": ["site a"], "levels": ["info", "warning"], "since": "2025-12-11T10:00:00Z"},
        response_example=page_example("alerts", examples.ALERT),
    )
    def post(self, request: Request) -> Response:
        fields = validate_body(SilencePreviewSerializer(data=request.data))
        now = timezone.now()
        since = max(fields.pop("since", now - PREVIEW_PERIOD), now - silences.MAX_DURATION)
        alerts = silences.preview_alerts(fields, caller(request), since).select_related("rule", "incident")
        rows, counts = page(request, alerts, COUNT_LIMIT)
        return Response({"alerts": AlertSerializer(rows, many=True).data, **counts})
