"""Silences: opened, looked at beforehand, changed and ended. Those who operate do so for the devices that they see."""

from datetime import UTC, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts import recurring_windows as weekly
from alerts import silences
from alerts.api import examples
from alerts.api.alert_shapes import AlertSerializer
from alerts.api.checking import checked, found_by, refusing
from alerts.api.lists import COUNTED, Filtered, asked, maybe, text, told
from alerts.api.schedules import WeeklyField, names_of
from alerts.models import Level, Silence, SilenceKind
from metrics.api.answers import Page
from metrics.api.definitions import ChoiceField
from rest.configuration import Known
from rest.etags import check_match, etag
from rest.idempotency import idempotent
from rest.openapi import Tag, operation, state
from rest.pagination import PageParameters, page
from rest.permissions import caller

LOOKED_BACK = timedelta(days=7)


def moment(**more: Any) -> serializers.DateTimeField:
    return serializers.DateTimeField(default_timezone=UTC, **more)


class _Covered(Known):
    """Which alerts: those that are in every list that is not empty."""

    device_ids = names_of("Of these devices.")
    device_groups = names_of("Of devices of these groups.")
    metric_names = names_of("Of these metrics.")
    rule_ids = names_of("Of these rules.")
    levels = serializers.ListField(
        child=ChoiceField(Level.choices), max_length=len(Level), required=False, help_text="Of these levels."
    )
    alert_id = serializers.CharField(
        max_length=24, allow_blank=True, required=False, help_text="This alert alone, until it is resolved."
    )
    weekly = WeeklyField(allow_null=True, required=False, help_text="Only at these times of the week; null: always.")


@extend_schema_serializer(component_name="Silence")
class SilenceSerializer(_Covered, serializers.ModelSerializer[Silence]):
    kind = ChoiceField(SilenceKind.choices, required=False)
    starts_at = moment(required=False, help_text="Now where it is left out.")
    ends_at = moment(help_text=f"No silence is for ever: {silences.MAX_DURATION.days} days at most.")
    reason = serializers.CharField(max_length=silences.MAX_REASON_LENGTH, help_text="Why, for those who wonder.")
    active = serializers.SerializerMethodField(help_text="Whether it is in force now.")

    class Meta:
        model = Silence
        fields = (
            "silence_id", *silences.SILENCE_FIELDS, "active", "created_by", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = ("silence_id", "created_by", "created_at", "updated_at")

    def get_active(self, silence: Silence) -> bool:
        now = timezone.now()
        return silence.starts_at <= now < silence.ends_at and weekly.is_active(silence.weekly, now)


class SilenceParameters(PageParameters):
    active = maybe("Those that have begun and are not over, or the others.")
    device_id = text("Those that name this device.")
    owner = text("Who made it.")
    kind = serializers.ChoiceField(SilenceKind.choices, required=False, help_text="Of this kind.")


class Silences(Filtered):
    silences = SilenceSerializer(many=True)


class SilencesView(APIView):
    scope_for_changes = "operate"

    def devices_asked(self, request: Request) -> list[str | None]:
        """What whoever asks must be allowed to read (rest.permissions.MayRead)."""
        return [request.query_params.get("device_id")]

    @operation(
        "list_silences",
        "Which silences there are",
        tag=Tag.ALERTS,
        description="Those that concern what the caller sees, by when they end, the latest first.",
        query=SilenceParameters,
        answer=Silences,
        asked={"active": True},
        answered={"silences": [examples.KNOWN_SILENCE], **examples.PAGE, "filters": {"active": "true"}},
    )
    def get(self, request: Request) -> Response:
        filters = asked(SilenceParameters(data=request.query_params))
        rows, counts = page(request, _chosen(silences.list_visible(caller(request)), filters), SilenceParameters)
        shown = SilenceSerializer(rows, many=True).data
        return Response({"silences": shown, **counts, "filters": told(request, filters)})

    @operation(
        "create_silence",
        "Keep alerts quiet for a while",
        tag=Tag.ALERTS,
        description="They are raised and shown as ever, and notify nobody. That one is resolved is told to whoever was"
        " told of it.",
        request=SilenceSerializer,
        answer=SilenceSerializer,
        status=201,
        errors=(422,),
        parameters=[state(201)],
        asked=examples.SILENCE,
        answered=examples.KNOWN_SILENCE,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        fields = checked(SilenceSerializer(data=request.data))
        with refusing():
            made = silences.create_silence(fields, caller(request))
        return silence_answer(made, status.HTTP_201_CREATED)


class SilenceView(APIView):
    scope_for_changes = "operate"

    @operation(
        "get_silence",
        "A silence",
        tag=Tag.ALERTS,
        description="What it keeps quiet, until when, and why.",
        answer=SilenceSerializer,
        errors=(404,),
        parameters=[state()],
        answered=examples.KNOWN_SILENCE,
    )
    def get(self, request: Request, silence_id: str) -> Response:
        return silence_answer(found_by(silences.list_visible(caller(request)), silence_id=silence_id))

    @operation(
        "update_silence",
        "Change a silence",
        tag=Tag.ALERTS,
        description="Fields that are not sent stay as they are.",
        request=SilenceSerializer(partial=True),
        answer=SilenceSerializer,
        errors=(404, 422),
        asked={"ends_at": "2025-12-18T20:00:00Z"},
        answered=examples.KNOWN_SILENCE | {"ends_at": "2025-12-18T20:00:00Z"},
        tagged=True,
    )
    def patch(self, request: Request, silence_id: str) -> Response:
        fields = checked(SilenceSerializer(data=request.data, partial=True))
        with transaction.atomic(), refusing():
            changed = silences.change_silence(_locked(request, silence_id), fields, caller(request))
        return silence_answer(changed)

    @operation(
        "end_silence",
        "End a silence now",
        tag=Tag.ALERTS,
        description="It stays in the list as one that is over. Open alerts that it has kept quiet are told of.",
        answer=SilenceSerializer,
        errors=(404,),
        answered=examples.KNOWN_SILENCE | {"active": False},
        tagged=True,
    )
    def delete(self, request: Request, silence_id: str) -> Response:
        with transaction.atomic():
            ended = silences.end_silence(_locked(request, silence_id), caller(request))
        return silence_answer(ended)


class SilencePreview(_Covered):
    since = moment(required=False, help_text=f"As if it had been in force since; {LOOKED_BACK.days} days ago.")


class Previewed(Page):
    alerts = AlertSerializer(many=True)


class SilencePreviewView(APIView):
    @operation(
        "preview_silence",
        "What a silence would have kept quiet",
        tag=Tag.ALERTS,
        description="The alerts since a time of which nobody would have been told, of those that the caller sees, the"
        f" latest first. `total` counts to {COUNTED:,} and no further.",
        query=PageParameters,
        request=SilencePreview,
        answer=Previewed,
        errors=(422,),
        asked={"device_groups": ["site a"], "levels": ["info", "warning"], "since": "2025-12-11T10:00:00Z"},
        answered={"alerts": [examples.ALERT], **examples.PAGE},
    )
    def post(self, request: Request) -> Response:
        fields = checked(SilencePreview(data=request.data))
        since = fields.pop("since", timezone.now() - LOOKED_BACK)
        with refusing():
            found = silences.preview_alerts(fields, caller(request), max(since, timezone.now() - silences.MAX_DURATION))
        rows, counts = page(request, found.select_related("rule", "incident"), counted=COUNTED)
        return Response({"alerts": AlertSerializer(rows, many=True).data, **counts})


def silence_answer(silence: Silence, code: int = status.HTTP_200_OK) -> Response:
    return Response(SilenceSerializer(silence).data, code, headers={"ETag": etag(silence)})


def _locked(request: Request, silence_id: str) -> Silence:
    """The silence, until the transaction ends nobody else's to change. Raises NotFound, PreconditionFailed."""
    found: Silence = found_by(silences.list_visible(caller(request)).select_for_update(), silence_id=silence_id)
    check_match(request, found)
    return found


def _chosen(among: QuerySet[Silence], filters: dict[str, Any]) -> QuerySet[Silence]:
    now = timezone.now()
    for name, value in filters.items():
        if name == "active":
            running = {"starts_at__lte": now, "ends_at__gt": now}
            among = among.filter(**running) if value else among.exclude(**running)
        elif name == "device_id":
            among = among.filter(device_ids__contains=[value])
        else:
            among = among.filter(**{"owner": {"created_by": value}}.get(name, {name: value}))
    return among
