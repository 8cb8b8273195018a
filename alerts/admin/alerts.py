"""Read-only admin of alerts, incidents and deliveries, with actions to acknowledge and resolve alerts."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import pluralize
from django.utils.html import format_html_join
from django.utils.timezone import localtime

from alerts import alert_actions
from alerts.models import Alert, Delivery, Incident, Resolution
from alerts.notifications.retry_queue import describe_status
from metrics.admin.base import FirstFewFilter, ReadOnlyAdmin
from rest.caller import caller_of

MAX_ACTION_ALERTS = 10_000  # alerts that one action changes
MAX_TIMELINE_EVENTS = 100  # newest events


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    help = "Breaches of alert rules. Use the actions to acknowledge or resolve alerts; nothing else is editable."
    list_display = ("message", "level", "status", "device_name", "rule_name", "triggered_at", "owner", "resolution")
    list_filter = ("status", "level", "shadow", "retroactive", ("rule", FirstFewFilter))
    search_fields = ("=alert_id", "^device_name", "message")
    actions = ("acknowledge", "resolve")
    fields = (
        "alert_id", "message", "description", "runbook_url", "level", "status", "rule", "rule_name", "rule_version",
        "device", "device_name", "metric_name", "value", "worst_value", "threshold", "evidence", "shadow",
        "retroactive", "triggered_at", "raised_at", "last_breach_at", "acknowledged_by", "acknowledged_at",
        "acknowledgement_note", "resolved_by", "resolved_at", "resolution", "resolution_note", "owner", "incident",
        "timeline",
    )  # fmt: skip

    @admin.display(description="timeline")
    def timeline(self, alert: Alert) -> str:
        events = alert.events.order_by("-pk")[:MAX_TIMELINE_EVENTS]
        lines = (
            (f"{localtime(event.at):%Y-%m-%d %H:%M:%S}", event.get_kind_display(), event.by, event.note)
            for event in events
        )
        return format_html_join("", "<div>{}: {} by {} {}</div>", lines)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return caller_of(request.user).may("operate")

    @admin.action(description="Acknowledge", permissions=["operate"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        self._change(request, queryset, alert_actions.acknowledge, "acknowledged")

    @admin.action(description="Resolve", permissions=["operate"])
    def resolve(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        def resolve_manually(alerts: Any, by: str) -> list[Alert]:
            return alert_actions.resolve(alerts, Resolution.PERSON, by)

        self._change(request, queryset, resolve_manually, "resolved")

    def _change(
        self,
        request: HttpRequest,
        queryset: QuerySet[Alert],
        action: Callable[[Any, str], list[Alert]],
        new_status: str,
    ) -> None:
        pks = list(queryset.order_by().values_list("pk", flat=True)[:MAX_ACTION_ALERTS])
        changed = action(Alert.objects.filter(pk__in=pks), caller_of(request.user).name)
        unchanged = len(pks) - len(changed)
        more = f"; {unchanged:,} not, because of their status" if unchanged else ""
        self.message_user(
            request, f"{len(changed):,} alert{pluralize(len(changed))} {new_status}{more}.", messages.SUCCESS
        )


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    help = "Alerts that have a common cause: a site, a gateway, or one rule on many devices."
    list_display = ("title", "cause", "began_at", "last_at")
    search_fields = ("=incident_id", "title", "cause")
    ordering = ("-pk",)
    fields = ("incident_id", "title", "cause", "began_at", "last_at")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    title = "Deliveries"
    help = "Messages to channels, with the number of attempts and the response of the receiver."
    list_display = (
        "title",
        "channel_name",
        "status_text",
        "attempts",
        "answer_status",
        "test",
        "created_at",
        "sent_at",
    )
    list_filter = ("status", "test")
    search_fields = ("=delivery_id", "^channel_name", "title")
    fields = (
        "delivery_id", "channel_name", "title", "test", "status", "attempts", "due_at", "leased_until",
        "answer_status", "answer", "error", "payload", "created_at", "sent_at",
    )  # fmt: skip

    @admin.display(description="status", ordering="status")
    def status_text(self, delivery: Delivery) -> str:
        return describe_status(delivery)
