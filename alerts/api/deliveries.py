"""Who was told of alerts, by which way, and what came back."""

from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.alert_shapes import chosen
from alerts.api.checking import found_by
from alerts.api.lists import COUNTED, ChoicesField, Filtered, asked, maybe, text, told
from alerts.models import Alert, Delivery, DeliveryStatus, Notice
from metrics.api.answers import Page
from rest.caller import Caller
from rest.openapi import Tag, operation
from rest.pagination import PageParameters, page
from rest.permissions import caller


@extend_schema_serializer(component_name="Delivery")
class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    channel = serializers.CharField(source="channel_name", help_text="The name of the channel.")

    class Meta:
        model = Delivery
        fields = (
            "delivery_id", "channel", "title", "test", "status", "attempts", "due_at", "created_at", "sent_at",
            "answer_status", "answer", "error",
        )  # fmt: skip
        read_only_fields = fields


class DeliveryParameters(PageParameters):
    channel = text("Of this channel, by its name.")
    status = ChoicesField(DeliveryStatus.values, required=False, help_text="In these states.")
    test = maybe("Test messages alone, or none of them.")


class Deliveries(Filtered):
    deliveries = DeliverySerializer(many=True)


class DeliveriesView(APIView):
    @operation(
        "list_alert_deliveries",
        "Messages about alerts, the latest first",
        tag=Tag.ALERTS,
        description="How often each was tried, and what came back. People see those about alerts that they see all"
        f" of. `total` counts to {COUNTED:,} and no further.",
        query=DeliveryParameters,
        answer=Deliveries,
        asked={"channel": "on call", "status": ["failed"]},
        answered={
            "deliveries": [examples.DELIVERY],
            **examples.PAGE,
            "filters": {"channel": "on call", "status": "failed"},
        },
    )
    def get(self, request: Request) -> Response:
        filters = asked(DeliveryParameters(data=request.query_params))
        found = _visible(caller(request))
        for name, value in filters.items():
            lookup = {"channel": "channel_name", "status": "status__in"}.get(name, name)
            found = found.filter(**{lookup: value})
        rows, counts = page(request, found, DeliveryParameters, COUNTED)
        return Response(
            {"deliveries": DeliverySerializer(rows, many=True).data, **counts, "filters": told(request, filters)}
        )


def _visible(seen: Caller) -> QuerySet[Delivery]:
    """A message may be about many alerts: it is for those who see each of them."""
    if seen.groups is None:
        return Delivery.objects.all()
    notices, visible = Notice.objects.filter(delivery=OuterRef("pk")), Alert.objects.visible_to(seen)
    return Delivery.objects.filter(
        Exists(notices.filter(alert__in=visible)), ~Exists(notices.exclude(alert__in=visible))
    )


@extend_schema_serializer(component_name="Notice")
class NoticeSerializer(serializers.ModelSerializer[Notice]):
    channel = serializers.CharField(source="channel_name", help_text="The name of the channel.")
    delivery = DeliverySerializer(allow_null=True, help_text="The message that it went with; null: none yet.")

    class Meta:
        model = Notice
        fields = ("channel", "kind", "status", "reason", "created_at", "due_at", "delivery")
        read_only_fields = fields


class Notices(Page):
    notices = NoticeSerializer(many=True)


class NoticesView(APIView):
    @operation(
        "list_alert_notices",
        "Who was told of an alert",
        tag=Tag.ALERTS,
        description="Every channel that was to be told of it and why, what became of that, and the message.",
        query=PageParameters,
        answer=Notices,
        errors=(404,),
        answered={"notices": [examples.NOTICE], **examples.PAGE},
    )
    def get(self, request: Request, alert_id: str) -> Response:
        alert: Alert = found_by(chosen(caller(request), {}), alert_id=alert_id)
        rows, counts = page(request, alert.notices.select_related("delivery").order_by("pk"))
        return Response({"notices": _shown(caller(request), rows), **counts})


def _shown(seen: Caller, notices: list[Notice]) -> Any:
    """With the messages that are about nothing that whoever asks does not see."""
    deliveries = {notice.delivery_id for notice in notices if notice.delivery_id is not None}
    visible = set(_visible(seen).filter(pk__in=deliveries).values_list("pk", flat=True))
    for notice in notices:
        if notice.delivery_id not in visible:
            notice.delivery = None
    return NoticeSerializer(notices, many=True).data
