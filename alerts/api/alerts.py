"""PRD E4-US5 to E4-US7: alerts and the actions of people on them.

A caller sees the alerts of the devices that it sees. Actions need scope `operate` and go through alerts.alert_actions.
"""

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models import Count, Q
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from alerts import alert_actions
from alerts.anomaly_feedback import give_feedback, takes_feedback, withdraw_feedback
from alerts.api import examples
from alerts.api.alert_serializers import (
    AlertFilters,
    AlertSerializer,
    WholeAlertSerializer,
    visible_alerts,
)
from alerts.models import Alert, Level, Resolution, Status
from alerts.models.alerts import AlertQuerySet
from metrics.models import NAME_LENGTH
from rest.caller import Caller
from rest.errors import InvalidField
from rest.fields import BooleanField, StrictSerializer, validate_printable
from rest.filters import FilterSet
from rest.idempotency import idempotent
from rest.openapi import Tag, operation
from rest.pagination import COUNT_LIMIT
from rest.resources import Action, Conflict, Resource, describe
from rest.responses import ResponseSerializer

MAX_NOTE_LENGTH = 10_000
CRITICAL_LEVELS = (Level.CRITICAL, Level.EMERGENCY)


def note_field(**options: Any) -> serializers.CharField:
    return serializers.CharField(max_length=MAX_NOTE_LENGTH, **options)


def owner_field(**options: Any) -> serializers.CharField:
    """Return a field for the owner of an alert: free text, because not all people have an account."""
    return serializers.CharField(
        max_length=2 * NAME_LENGTH,
        allow_blank=True,
        validators=[validate_printable],
        help_text="Owner of the alert; empty to unassign it.",
        **options,
    )


class NoteSerializer(StrictSerializer):
    note = note_field(allow_blank=True, default="", help_text="Note for other people.")


class ResolutionNoteSerializer(NoteSerializer):
    resolution_note = note_field(required=False, allow_blank=True, help_text="Alias of `note`.")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        if attributes["note"] and attributes.get("resolution_note"):
            raise InvalidField("resolution_note", "is an alias of note: send only one of them")
        return {"note": attributes["note"] or attributes.get("resolution_note", "")}


class OwnerSerializer(StrictSerializer):
    owner = owner_field()


class CommentSerializer(StrictSerializer):
    note = note_field(help_text="Text of the comment.")


class FeedbackSerializer(StrictSerializer):
    is_anomaly = BooleanField(help_text="Whether the alert was an anomaly.")


@extend_schema_serializer(component_name="AlertDone")
class AlertActionResultSerializer(ResponseSerializer):
    success = serializers.BooleanField(help_text="Always true.")
    message = serializers.CharField(help_text="Summary of the change.")
    alert = WholeAlertSerializer()


@describe(
    Tag.ALERTS,
    list=Action(
        "list_alerts",
        "List alerts",
        "Returns a page of the alerts of devices the caller sees, latest first. Filters do not affect `active_count`"
        " and"
        f" `critical_count`. `total` is at most {COUNT_LIMIT:,}.",
        request={"status": ["active"], "limit": 100},
        response=examples.ALERTS,
    ),
    retrieve=Action(
        "get_alert",
        "Get an alert",
        "Returns the alert with the data that opened it and its timeline.",
        response=examples.WHOLE_ALERT,
    ),
)
class AlertResource(Resource):
    serializer_class = AlertSerializer
    filterset_class = AlertFilters
    detail_serializer_class = WholeAlertSerializer
    lookup_field = "alert_id"
    rows_field = "alerts"
    echo_filters = "sent"
    has_etag = False
    count_limit = COUNT_LIMIT
    write_scope = "operate"
    page_fields = {
        "active_count": serializers.IntegerField(help_text="Open alerts of devices the caller sees."),
        "critical_count": serializers.IntegerField(help_text="Open alerts of level critical or emergency."),
    }

    def requested_devices(self, request: Request) -> list[str | None]:
        return [request.query_params.get("device_id") if self.action == "list" else None]

    def get_queryset(self) -> AlertQuerySet:
        return visible_alerts(self.caller)

    def page_extras(self, filters: FilterSet) -> dict[str, Any]:
        return open_counts(self.caller) | super().page_extras(filters)

    @operation(
        "acknowledge_alert",
        "Acknowledge an alert",
        tag=Tag.ALERTS,
        description="Assigns the alert to the caller until it is resolved. Acknowledging an acknowledged alert changes"
        " nothing. A resolved alert cannot be acknowledged.",
        request=NoteSerializer,
        response=AlertActionResultSerializer,
        errors=(404, 409, 422),
        request_example={"note": "Looking into it"},
        response_example={
            "success": True,
            "message": "alt_0123456789abcdef is acknowledged",
            "alert": examples.ACKNOWLEDGED,
        },
    )
    def acknowledge(self, request: Request, alert_id: str) -> Response:
        note = self.validate(NoteSerializer(data=request.data))["note"]
        return self._act(
            lambda alerts: alert_actions.acknowledge(alerts, self.caller.name, note),
            "acknowledged",
            unchanged_status=Status.ACKNOWLEDGED,
        )

    @operation(
        "resolve_alert",
        "Resolve an alert",
        tag=Tag.ALERTS,
        description="Resolves the alert regardless of its values. Resolving a resolved alert changes nothing.",
        request=ResolutionNoteSerializer,
        response=AlertActionResultSerializer,
        errors=(404, 422),
        request_example={"note": "Restarted the service"},
        response_example={"success": True, "message": "alt_0123456789abcdef is resolved", "alert": examples.RESOLVED},
    )
    def resolve(self, request: Request, alert_id: str) -> Response:
        note = self.validate(ResolutionNoteSerializer(data=request.data))["note"]
        return self._act(
            lambda alerts: alert_actions.resolve(alerts, Resolution.PERSON, self.caller.name, note),
            "resolved",
            unchanged_status=Status.RESOLVED,
        )

    @operation(
        "assign_alert",
        "Assign an alert",
        tag=Tag.ALERTS,
        description="Sets the owner of an open alert. A resolved alert cannot be assigned.",
        request=OwnerSerializer,
        response=AlertActionResultSerializer,
        errors=(404, 409, 422),
        request_example={"owner": "mei"},
        response_example={
            "success": True,
            "message": "alt_0123456789abcdef is assigned",
            "alert": examples.WHOLE_ALERT | {"owner": "mei"},
        },
    )
    def assign(self, request: Request, alert_id: str) -> Response:
        owner = self.validate(OwnerSerializer(data=request.data))["owner"]
        return self._act(lambda alerts: alert_actions.assign(alerts, owner, self.caller.name), "assigned")

    @operation(
        "comment_alert",
        "Comment on an alert",
        tag=Tag.ALERTS,
        description="Adds a comment to the timeline of an open or resolved alert.",
        request=CommentSerializer,
        response=AlertActionResultSerializer,
        errors=(404, 422),
        request_example={"note": "The fan is on its way"},
        response_example={
            "success": True,
            "message": "alt_0123456789abcdef is commented on",
            "alert": examples.WHOLE_ALERT,
        },
    )
    @idempotent
    def comment(self, request: Request, alert_id: str) -> Response:
        note = self.validate(CommentSerializer(data=request.data))["note"]
        return self._act(lambda alerts: alert_actions.comment(alerts, self.caller.name, note), "commented on")

    @operation(
        "give_alert_feedback",
        "Say whether an alert was an anomaly",
        tag=Tag.ALERTS,
        description="For alerts of anomaly rules. `false` raises the notification threshold of this series, so that"
        " anomalies like this one no longer notify, to at most 8 times the usual one; `true` lowers it a little."
        " Replaces earlier feedback on the alert.",
        request=FeedbackSerializer,
        response=AlertActionResultSerializer,
        errors=(404, 409, 422),
        request_example={"is_anomaly": False},
        response_example={
            "success": True,
            "message": "alt_0123456789abcdef is not an anomaly",
            "alert": examples.WITH_FEEDBACK,
        },
    )
    def give_feedback(self, request: Request, alert_id: str) -> Response:
        is_anomaly = self.validate(FeedbackSerializer(data=request.data))["is_anomaly"]
        give_feedback(self._anomaly(), is_anomaly, self.caller.name)
        return self._result("is an anomaly" if is_anomaly else "is not an anomaly")

    @operation(
        "withdraw_alert_feedback",
        "Withdraw the feedback on an alert",
        tag=Tag.ALERTS,
        description="Deletes the feedback and undoes its effect on the notification threshold of the series.",
        response=AlertActionResultSerializer,
        errors=(404, 409),
        response_example={
            "success": True,
            "message": "alt_0123456789abcdef has no feedback any more",
            "alert": examples.WHOLE_ALERT,
        },
    )
    def withdraw_feedback(self, request: Request, alert_id: str) -> Response:
        withdrawn = withdraw_feedback(self._anomaly(), self.caller.name)
        return self._result("has no feedback any more" if withdrawn else "had no feedback; nothing was changed")

    def _anomaly(self) -> Alert:
        """Return the alert. Raises Conflict if no anomaly opened it."""
        alert: Alert = self.get_object()
        if not takes_feedback(alert):
            raise Conflict(f"{alert.alert_id} was not opened by an anomaly rule: it takes no feedback")
        return alert

    def _act(
        self, act: Callable[[AlertQuerySet], list[Alert]], result: str, unchanged_status: Status | None = None
    ) -> Response:
        """Apply an action to the alert. An alert in `unchanged_status` stays as it is.

        Raises Conflict in any other state that the action does not apply to.
        """
        with transaction.atomic():
            changed = act(Alert.objects.filter(pk=self.get_object().pk))
            alert: Alert = self.get_object()
        if not changed and alert.status != unchanged_status:
            raise Conflict(f"{alert.alert_id} is {alert.status}: it cannot be {result}")
        message = f"is {result}" if changed else f"was already {result}; nothing was changed"
        return self._result(message)

    def _result(self, message: str) -> Response:
        """Return the alert as it is now."""
        alert: Alert = self.get_object()
        whole = WholeAlertSerializer(alert, context=self.get_serializer_context())
        return Response({"success": True, "message": f"{alert.alert_id} {message}", "alert": whole.data})


def open_counts(viewer: Caller) -> dict[str, int]:
    """Return how many open alerts a caller sees."""
    counts: dict[str, int] = (
        Alert.objects.visible_to(viewer)
        .open()
        .without_shadows()
        .order_by()
        .aggregate(active_count=Count("pk"), critical_count=Count("pk", filter=Q(level__in=CRITICAL_LEVELS)))
    )
    return counts
