"""One action on many alerts: the named ones, or those that match a filter."""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts import alert_actions
from alerts.api.alert_serializers import AlertFilters, visible_alerts
from alerts.api.alerts import note_field, owner_field
from alerts.models import OPEN_STATUSES, Alert, Resolution, Status
from alerts.models.alerts import AlertQuerySet
from metrics.models import NAME_LENGTH
from rest.errors import InvalidField
from rest.fields import StrictSerializer
from rest.idempotency import idempotent
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.resources import validate_body
from rest.responses import ResponseSerializer
from rest.unknown_names import reject_unknown_fields

MAX_ALERT_IDS = 1000
BULK_BATCH = 10_000  # alerts that match a filter, changed in one request
VERBS = {  # states that each verb applies to
    "acknowledge": (Status.ACTIVE,),
    "resolve": OPEN_STATUSES,
    "assign": OPEN_STATUSES,
    "comment": tuple(Status),
}
PARTICIPLES = {
    "acknowledge": "acknowledged",
    "resolve": "resolved",
    "assign": "assigned",
    "comment": "commented on",
}


@extend_schema_serializer(component_name="KnownFilters")
class BulkFilterSerializer(AlertFilters.get_form_class()):  # type: ignore[misc]
    """Filters of alerts, at least one of them: no filter would match every alert."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict):
            reject_unknown_fields(data, self.fields, "filter.")
        fields: dict[str, Any] = super().to_internal_value(data)
        values = {name: value for name, value in fields.items() if value is not None}
        if not values.keys() - {"shadow"}:
            raise serializers.ValidationError("requires at least one filter besides shadow")
        return values


@extend_schema_serializer(component_name="Bulk")
class BulkActionSerializer(StrictSerializer):
    verb = serializers.ChoiceField([(verb, verb) for verb in VERBS], help_text="Action to apply.")
    alert_ids = serializers.ListField(
        child=serializers.CharField(max_length=NAME_LENGTH),
        min_length=1,
        max_length=MAX_ALERT_IDS,
        required=False,
        help_text="IDs of the alerts.",
    )
    filter = BulkFilterSerializer(
        required=False,
        help_text=f"Filters as in the list, instead of IDs: the latest {BULK_BATCH:,} alerts that match. Without"
        " `status`, alerts in a state that the verb applies to.",
    )
    note = note_field(required=False, help_text="Note for other people; the text of a comment.")
    owner = owner_field(required=False)

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        if ("alert_ids" in attributes) == ("filter" in attributes):
            raise InvalidField("alert_ids", "send either alert_ids or filter")
        verb = attributes["verb"]
        if ("owner" in attributes) != (verb == "assign"):
            detail = "is required with assign" if verb == "assign" else "is accepted only with assign"
            raise InvalidField("owner", detail)
        if "note" in attributes and verb == "assign":
            raise InvalidField("note", "is not accepted with assign")
        if "note" not in attributes and verb == "comment":
            raise InvalidField("note", "is required with comment")
        return attributes


@extend_schema_serializer(component_name="LeftAlone")
class UnchangedAlertSerializer(ResponseSerializer):
    alert_id = serializers.CharField()
    detail = serializers.CharField(help_text="Why the alert was not changed.")


@extend_schema_serializer(component_name="BulkDone")
class BulkResultSerializer(ResponseSerializer):
    success = serializers.BooleanField(help_text="Always true.")
    message = serializers.CharField(help_text="Summary of the change.")
    found = serializers.IntegerField(help_text="Alerts that exist, of the IDs, or that match the filter.")
    changed = serializers.IntegerField(help_text="Alerts that were changed.")
    left_alone = UnchangedAlertSerializer(many=True, help_text="Alerts that were not changed.")
    more = serializers.BooleanField(help_text="Whether more alerts match the filter: repeat the request.")


class BulkView(APIView):
    scope_for_changes = "operate"

    @operation(
        "change_alerts",
        "Change many alerts",
        tag=Tag.ALERTS,
        description="Changes all alerts in one transaction. Alerts in a state that the verb does not apply to, and"
        " alerts that the caller does not see, are not changed and are listed in `left_alone`.",
        request=BulkActionSerializer,
        response=BulkResultSerializer,
        errors=(422,),
        request_example={
            "verb": "acknowledge",
            "filter": {"level": ["critical"]},
            "note": "The cooling of hall 3 is off",
        },
        response_example={
            "success": True,
            "message": "2 alerts are acknowledged",
            "found": 2,
            "changed": 2,
            "left_alone": [],
            "more": False,
        },
    )
    @idempotent
    def post(self, request: Request) -> Response:
        fields = validate_body(BulkActionSerializer(data=request.data))
        with transaction.atomic():
            alerts, more = _select(request, fields)
            changed = {alert.pk for alert in _apply(fields, Alert.objects.filter(pk__in=alerts), caller(request).name)}
            unchanged = Alert.objects.filter(pk__in=alerts.keys() - changed).values_list("alert_id", "status")
            left_alone = [{"alert_id": alert_id, "detail": f"it is {state}"} for alert_id, state in unchanged]
        unknown = sorted(set(fields.get("alert_ids", ())) - set(alerts.values()))
        left_alone += [{"alert_id": alert_id, "detail": "is not known"} for alert_id in unknown]
        message = f"{len(changed):,} alerts are {PARTICIPLES[fields['verb']]}"
        counts = {"found": len(alerts), "changed": len(changed), "left_alone": left_alone, "more": more}
        return Response({"success": True, "message": message} | counts)


def _select(request: Request, fields: dict[str, Any]) -> tuple[dict[int, str], bool]:
    """Return the alerts, as {primary key: id}, and whether more match than one request changes."""
    alerts: QuerySet[Alert] = visible_alerts(caller(request))
    if "alert_ids" in fields:
        alerts = alerts.filter(alert_id__in=fields["alert_ids"])
    else:
        body: Any = request.data
        alerts = AlertFilters({"status": [*VERBS[fields["verb"]]]} | body["filter"], alerts, request=request).qs
    rows = list(alerts.values_list("pk", "alert_id")[: BULK_BATCH + 1])
    return dict(rows[:BULK_BATCH]), len(rows) > BULK_BATCH


def _apply(fields: dict[str, Any], alerts: AlertQuerySet, by: str) -> list[Alert]:
    note = fields.get("note", "")
    match fields["verb"]:
        case "acknowledge":
            return alert_actions.acknowledge(alerts, by, note)
        case "resolve":
            return alert_actions.resolve(alerts, Resolution.PERSON, by, note)
        case "assign":
            return alert_actions.assign(alerts, fields["owner"], by)
        case _:
            return alert_actions.comment(alerts, by, note)
