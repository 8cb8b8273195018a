"""PRD E4-US5 to E4-US7: alerts are listed, shown, and moved through their life by people.

Everybody sees the alerts of the devices that they see. The verbs need scope `operate`; all of them go through
alerts.alert_actions.
"""

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models import Count, Q
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts import alert_actions
from alerts.api import examples
from alerts.api.alert_shapes import AlertFilters, AlertSerializer, WholeAlertSerializer, chosen
from alerts.api.checking import Conflict, checked, found_by
from alerts.api.lists import COUNTED, Filtered, asked, told
from alerts.models import Alert, Level, Resolution, Status
from alerts.models.alerts import AlertQuerySet
from metrics.api.answers import Answer
from metrics.models import NAME_LENGTH
from rest.caller import Caller
from rest.configuration import Known, printable
from rest.idempotency import idempotent
from rest.openapi import Tag, operation
from rest.pagination import PageParameters, page
from rest.permissions import caller

LONGEST_NOTE = 10_000
URGENT = (Level.CRITICAL, Level.EMERGENCY)


class AlertParameters(AlertFilters, PageParameters):
    pass


class Alerts(Filtered):
    alerts = AlertSerializer(many=True)
    active_count = serializers.IntegerField(help_text="Open alerts of the devices that the caller sees.")
    critical_count = serializers.IntegerField(help_text="Of these, those of level critical and emergency.")


class AlertsView(APIView):
    """E4-US5."""

    def devices_asked(self, request: Request) -> list[str | None]:
        """What whoever asks must be allowed to read (rest.permissions.MayRead)."""
        return [request.query_params.get("device_id")]

    @operation(
        "list_alerts",
        "Alerts, the latest first",
        tag=Tag.ALERTS,
        description="A page of the alerts of devices that the caller sees, by when they were triggered. `active_count`"
        f" and `critical_count` heed no filter. `total` counts to {COUNTED:,} and no further.",
        query=AlertParameters,
        answer=Alerts,
        asked={"status": ["active"], "limit": 100},
        answered=examples.ALERTS,
    )
    def get(self, request: Request) -> Response:
        filters = asked(AlertParameters(data=request.query_params))
        rows, counts = page(request, chosen(caller(request), filters), AlertParameters, COUNTED)
        shown = AlertSerializer(rows, many=True).data
        return Response({"alerts": shown, **counts, **open_counts(caller(request)), "filters": told(request, filters)})


def open_counts(seen: Caller) -> dict[str, int]:
    """How many alerts are open, of all that somebody sees."""
    counted: dict[str, int] = (
        Alert.objects.visible_to(seen)
        .open()
        .without_shadows()
        .order_by()
        .aggregate(active_count=Count("pk"), critical_count=Count("pk", filter=Q(level__in=URGENT)))
    )
    return counted


class AlertView(APIView):
    @operation(
        "get_alert",
        "An alert, with its timeline",
        tag=Tag.ALERTS,
        description="What it was triggered by, and everything that happened to it since.",
        answer=WholeAlertSerializer,
        errors=(404,),
        answered=examples.WHOLE_ALERT,
    )
    def get(self, request: Request, alert_id: str) -> Response:
        return Response(WholeAlertSerializer(visible_alert(request, alert_id)).data)


def note_field(**more: Any) -> serializers.CharField:
    return serializers.CharField(max_length=LONGEST_NOTE, **more)


def owner_field(**more: Any) -> serializers.CharField:
    """Whoever has an alert in hand: a free text, as people are not all known here."""
    told = "Whoever is to have it in hand; nobody with an empty text."
    return serializers.CharField(
        max_length=2 * NAME_LENGTH, allow_blank=True, validators=[printable], help_text=told, **more
    )


class Note(Known):
    note = note_field(allow_blank=True, default="", help_text="What others should know.")


class ResolutionNote(Note):
    resolution_note = note_field(required=False, allow_blank=True, help_text="Another name of `note`.")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        if attributes["note"] and attributes.get("resolution_note"):
            raise serializers.ValidationError({"resolution_note": "is another name of note: give one of them"})
        return {"note": attributes["note"] or attributes.get("resolution_note", "")}


class Owner(Known):
    owner = owner_field()


class Comment(Known):
    note = note_field(help_text="What others should know.")


class AlertDone(Answer):
    success = serializers.BooleanField()
    message = serializers.CharField()
    alert = WholeAlertSerializer()


class _VerbView(APIView):
    scope_for_changes = "operate"

    def do(
        self,
        request: Request,
        alert_id: str,
        verb: Callable[[AlertQuerySet], list[Alert]],
        done: Status | None,
        what: str,
    ) -> Response:
        """The answer to a verb. An alert that is `done` already stays as it is; in any other state that the verb
        does not begin with, Conflict is raised."""
        with transaction.atomic():
            before = visible_alert(request, alert_id)
            moved = verb(Alert.objects.filter(pk=before.pk))
            found = visible_alert(request, alert_id)
        if not moved and found.status != done:
            raise Conflict(f"{alert_id} is {found.status}: it cannot be {what}")
        message = f"{alert_id} is {what}" if moved else f"{alert_id} was {what} before; nothing was changed"
        return Response({"success": True, "message": message, "alert": WholeAlertSerializer(found).data})


class AcknowledgeView(_VerbView):
    """E4-US6."""

    @operation(
        "acknowledge_alert",
        "Acknowledge an alert",
        tag=Tag.ALERTS,
        description="Whoever does so has it in hand until it clears. Of one that is acknowledged already nothing is"
        " changed; one that is resolved cannot be acknowledged.",
        request=Note,
        answer=AlertDone,
        errors=(404, 409, 422),
        asked={"note": "Looking into it"},
        answered={
            "success": True,
            "message": "alt_0123456789abcdef is acknowledged",
            "alert": examples.ACKNOWLEDGED,
        },
    )
    def put(self, request: Request, alert_id: str) -> Response:
        note = checked(Note(data=request.data))["note"]
        by = caller(request).name
        return self.do(
            request,
            alert_id,
            lambda among: alert_actions.acknowledge(among, by, note),
            Status.ACKNOWLEDGED,
            "acknowledged",
        )


class ResolveView(_VerbView):
    """E4-US7."""

    @operation(
        "resolve_alert",
        "Resolve an alert",
        tag=Tag.ALERTS,
        description="It is over, whatever is measured. Of one that is resolved already nothing is changed.",
        request=ResolutionNote,
        answer=AlertDone,
        errors=(404, 422),
        asked={"note": "Restarted the service"},
        answered={"success": True, "message": "alt_0123456789abcdef is resolved", "alert": examples.RESOLVED},
    )
    def put(self, request: Request, alert_id: str) -> Response:
        note = checked(ResolutionNote(data=request.data))["note"]
        by = caller(request).name
        return self.do(
            request,
            alert_id,
            lambda among: alert_actions.resolve(among, Resolution.PERSON, by, note),
            Status.RESOLVED,
            "resolved",
        )


class AssignView(_VerbView):
    @operation(
        "assign_alert",
        "Give an alert to somebody",
        tag=Tag.ALERTS,
        description="One that is resolved is nobody's any more, and cannot be assigned.",
        request=Owner,
        answer=AlertDone,
        errors=(404, 409, 422),
        asked={"owner": "mei"},
        answered={
            "success": True,
            "message": "alt_0123456789abcdef is assigned",
            "alert": examples.WHOLE_ALERT | {"owner": "mei"},
        },
    )
    def put(self, request: Request, alert_id: str) -> Response:
        owner = checked(Owner(data=request.data))["owner"]
        by = caller(request).name
        return self.do(request, alert_id, lambda among: alert_actions.assign(among, owner, by), None, "assigned")


class CommentsView(_VerbView):
    @operation(
        "comment_alert",
        "Add a line to an alert's timeline",
        tag=Tag.ALERTS,
        description="Open or not; nothing else is changed.",
        request=Comment,
        answer=AlertDone,
        errors=(404, 422),
        asked={"note": "The fan is on its way"},
        answered={
            "success": True,
            "message": "alt_0123456789abcdef is commented on",
            "alert": examples.WHOLE_ALERT,
        },
    )
    @idempotent
    def post(self, request: Request, alert_id: str) -> Response:
        note = checked(Comment(data=request.data))["note"]
        by = caller(request).name
        return self.do(request, alert_id, lambda among: alert_actions.comment(among, by, note), None, "commented on")


def visible_alert(request: Request, alert_id: str) -> Alert:
    found: Alert = found_by(chosen(caller(request), {}), alert_id=alert_id)
    return found
