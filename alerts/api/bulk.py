"""One verb over many alerts: those that are named, or those that a filter finds."""

from typing import Any

from django.db import transaction
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts import alert_actions
from alerts.api.alert_shapes import AlertFilters, chosen
from alerts.api.alerts import note_field, owner_field
from alerts.api.checking import checked
from alerts.models import OPEN_STATUSES, Alert, Resolution, Status
from alerts.models.alerts import AlertQuerySet
from metrics.api.answers import Answer
from metrics.models import NAME_LENGTH
from rest.caller import Caller
from rest.configuration import Known
from rest.idempotency import idempotent
from rest.openapi import Tag, operation
from rest.permissions import caller

MOST_NAMED = 1000
MOST_FOUND = 10_000
VERBS = {  # each with the states that it begins with
    "acknowledge": (Status.ACTIVE,),
    "resolve": OPEN_STATUSES,
    "assign": OPEN_STATUSES,
    "comment": tuple(Status),
}


class KnownFilters(AlertFilters):
    """Some filters; none would be everything."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().to_internal_value(data)
        if unknown := sorted(set(map(str, data)) - set(self.fields)):
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not known"))
        wanted = {name: value for name, value in found.items() if value is not None}
        if not wanted.keys() - {"shadow"}:
            raise serializers.ValidationError("at least one filter besides shadow is needed")
        return wanted


class Bulk(Known):
    verb = serializers.ChoiceField([(name, name) for name in VERBS], help_text="What is to be done.")
    alert_ids = serializers.ListField(
        child=serializers.CharField(max_length=NAME_LENGTH),
        min_length=1,
        max_length=MOST_NAMED,
        required=False,
        help_text="To these alerts.",
    )
    filter = KnownFilters(
        required=False,
        help_text=f"Or to the latest {MOST_FOUND:,} of those that a list finds by this; without `status`, of those in"
        " a state that the verb begins with.",
    )
    note = note_field(required=False, help_text="What others should know; of a comment, the comment.")
    owner = owner_field(required=False)

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        if ("alert_ids" in attributes) == ("filter" in attributes):
            raise serializers.ValidationError({"alert_ids": "alert_ids or filter is needed, and not both"})
        verb = attributes["verb"]
        if ("owner" in attributes) != (verb == "assign"):
            told = "is needed to assign alerts" if verb == "assign" else "goes with assign alone"
            raise serializers.ValidationError({"owner": told})
        if "note" in attributes and verb == "assign":
            raise serializers.ValidationError({"note": "does not go with assign"})
        if "note" not in attributes and verb == "comment":
            raise serializers.ValidationError({"note": "is needed to comment on alerts"})
        return attributes


class LeftAlone(Answer):
    alert_id = serializers.CharField()
    detail = serializers.CharField(help_text="Why nothing was done to it.")


class BulkDone(Answer):
    success = serializers.BooleanField()
    message = serializers.CharField()
    found = serializers.IntegerField(help_text="Alerts that were named and are known, or that the filter found.")
    changed = serializers.IntegerField()
    left_alone = LeftAlone(many=True, help_text="Those to which nothing was done.")
    more = serializers.BooleanField(help_text="The filter finds more than are done at once: send it again.")


class BulkView(APIView):
    scope_for_changes = "operate"

    @operation(
        "change_alerts",
        "Do something to many alerts",
        tag=Tag.ALERTS,
        description="All of it or, where the database fails, nothing. Alerts in a state that the verb does not begin"
        " with, and those that the caller does not see, are left alone and told of.",
        request=Bulk,
        answer=BulkDone,
        errors=(422,),
        asked={"verb": "acknowledge", "filter": {"level": ["critical"]}, "note": "The cooling of hall 3 is off"},
        answered={
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
        given = checked(Bulk(data=request.data))
        seen = caller(request)
        with transaction.atomic():
            found, more = _found(seen, given)
            changed = {alert.pk for alert in _do(given, Alert.objects.filter(pk__in=found), seen.name)}
            rest = Alert.objects.filter(pk__in=found.keys() - changed).values_list("alert_id", "status")
            left = [{"alert_id": one, "detail": f"it is {state}"} for one, state in rest]
        unknown = sorted(set(given.get("alert_ids", ())) - set(found.values()))
        left += [{"alert_id": one, "detail": "is not known"} for one in unknown]
        body = {"found": len(found), "changed": len(changed), "left_alone": left, "more": more}
        return Response({"success": True, "message": f"{len(changed):,} alerts are {_DONE[given['verb']]}"} | body)


_DONE = {
    "acknowledge": "acknowledged",
    "resolve": "resolved",
    "assign": "assigned",
    "comment": "commented on",
}


def _found(seen: Caller, given: dict[str, Any]) -> tuple[dict[int, str], bool]:
    """The alerts that are meant, {primary key: id}; and whether there are more than are done at once."""
    if "alert_ids" in given:
        among = Alert.objects.visible_to(seen).filter(alert_id__in=given["alert_ids"])
    else:
        among = chosen(seen, {"status": VERBS[given["verb"]]} | given["filter"])
    found = list(among.values_list("pk", "alert_id")[: MOST_FOUND + 1])
    return dict(found[:MOST_FOUND]), len(found) > MOST_FOUND


def _do(given: dict[str, Any], among: AlertQuerySet, by: str) -> list[Alert]:
    note = given.get("note", "")
    match given["verb"]:
        case "acknowledge":
            return alert_actions.acknowledge(among, by, note)
        case "resolve":
            return alert_actions.resolve(among, Resolution.PERSON, by, note)
        case "assign":
            return alert_actions.assign(among, given["owner"], by)
        case _:
            return alert_actions.comment(among, by, note)
