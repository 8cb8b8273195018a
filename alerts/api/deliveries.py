"""Notifications of an alert, and the deliveries that carried them: channels, attempts and responses."""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from alerts.api import examples
from alerts.api.alert_serializers import visible_alerts
from alerts.api.filters import EXACT_TEXT, ChoicesFilter
from alerts.models import Alert, Delivery, DeliveryStatus, Notice
from alerts.visibility import visible_deliveries
from rest.filters import BooleanFilter, FilterSet, TextFilter
from rest.openapi import Tag
from rest.pagination import COUNT_LIMIT, PageQuerySerializer
from rest.resources import Action, Resource, describe, get_row
from rest.responses import page_example


@extend_schema_serializer(component_name="Delivery")
class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    channel = serializers.CharField(source="channel_name", help_text="Name of the channel.")

    class Meta:
        model = Delivery
        fields = (
            "delivery_id", "channel", "title", "test", "status", "attempts", "due_at", "created_at", "sent_at",
            "answer_status", "answer", "error",
        )  # fmt: skip
        read_only_fields = fields


class DeliveryFilters(FilterSet):
    channel = TextFilter("channel_name", help_text="Name of the channel.", **EXACT_TEXT)
    status = ChoicesFilter(DeliveryStatus.values, help_text="Delivery states.")
    test = BooleanFilter(help_text="Whether the delivery is a test message.")


@describe(
    Tag.ALERTS,
    list=Action(
        "list_alert_deliveries",
        "List deliveries",
        "Returns a page of deliveries, latest first, with their attempts and the response of the channel. Callers see"
        f" deliveries of which they see every alert. `total` is at most {COUNT_LIMIT:,}.",
        request={"channel": "on call", "status": ["failed"]},
        response=page_example("deliveries", examples.DELIVERY, filters={"channel": "on call", "status": "failed"}),
    ),
)
class DeliveryResource(Resource):
    serializer_class = DeliverySerializer
    filterset_class = DeliveryFilters
    rows_field = "deliveries"
    echo_filters = "sent"
    count_limit = COUNT_LIMIT

    def get_queryset(self) -> QuerySet[Delivery]:
        return visible_deliveries(self.caller)


@extend_schema_serializer(component_name="Notice")
class NoticeSerializer(serializers.ModelSerializer[Notice]):
    channel = serializers.CharField(source="channel_name", help_text="Name of the channel.")
    delivery = DeliverySerializer(allow_null=True, help_text="Delivery that carried it; null: not sent yet, or hidden.")

    class Meta:
        model = Notice
        fields = ("channel", "kind", "status", "reason", "created_at", "due_at", "delivery")
        read_only_fields = fields


@describe(
    Tag.ALERTS,
    list=Action(
        "list_alert_notices",
        "List notifications of an alert",
        "Returns a page of the notifications of an alert: channel, reason, status and delivery of each.",
        response=page_example("notices", examples.NOTICE),
    ),
)
class NoticeResource(Resource):
    serializer_class = NoticeSerializer
    rows_field = "notices"
    is_nested = True

    def get_queryset(self) -> QuerySet[Notice]:
        alert: Alert = get_row(visible_alerts(self.caller), alert_id=self.kwargs["alert_id"])
        return alert.notices.select_related("delivery").order_by("pk")

    def represent(self, rows: Sequence[Notice], query: PageQuerySerializer | None = None) -> Any:
        """Return notifications as JSON, without the deliveries that the caller must not see."""
        deliveries = {notice.delivery_id for notice in rows if notice.delivery_id is not None}
        visible = set(visible_deliveries(self.caller).filter(pk__in=deliveries).values_list("pk", flat=True))
        for notice in rows:
            if notice.delivery_id not in visible:
                notice.delivery = None
        return NoticeSerializer(rows, many=True).data
