"""Alerts, the incidents that some of them are together, and whoever was told: looked at."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join

from alerts import alert_actions
from alerts.models import Alert, Delivery, Incident, Resolution
from metrics.admin.bounded import FirstFewFilter, ReadOnlyAdmin
from rest.caller import caller_of

MOST_MOVED = 10_000  # alerts of one request
SHOWN = 100  # lines of a timeline


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    help = "What rules have found. Nothing is changed here but by the verbs, as everywhere else."
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
        latest = alert.events.order_by("-pk")[:SHOWN]
        lines = ((f"{one.at:%Y-%m-%d %H:%M:%S} UTC", one.get_kind_display(), one.by, one.note) for one in latest)
        return format_html_join("", "<div>{}: {} by {} {}</div>", lines)

    def has_move_permission(self, request: HttpRequest) -> bool:
        return caller_of(request.user).may("operate")

    @admin.action(description="Acknowledge", permissions=["move"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        self._move(request, queryset, alert_actions.acknowledge, "acknowledged")

    @admin.action(description="Resolve", permissions=["move"])
    def resolve(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        def resolved(among: Any, by: str) -> list[Alert]:
            return alert_actions.resolve(among, Resolution.PERSON, by)

        self._move(request, queryset, resolved, "resolved")

    def _move(
        self, request: HttpRequest, queryset: QuerySet[Alert], verb: Callable[[Any, str], list[Alert]], done: str
    ) -> None:
        chosen = list(queryset.order_by().values_list("pk", flat=True)[:MOST_MOVED])
        moved = verb(Alert.objects.filter(pk__in=chosen), caller_of(request.user).name)
        left = len(chosen) - len(moved)
        more = f"; {left:,} were not in a state for it" if left else ""
        self.message_user(request, f"{len(moved):,} alerts are {done}{more}.", messages.SUCCESS)


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    help = "Alerts that have one cause: of one site, one gateway, or one rule at many devices."
    list_display = ("title", "cause", "began_at", "last_at")
    search_fields = ("=incident_id", "title", "cause")
    ordering = ("-pk",)
    fields = ("incident_id", "title", "cause", "began_at", "last_at")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    title = "Deliveries"
    help = "Every message to a channel: how often it was tried, and what came back."
    list_display = ("title", "channel_name", "status", "attempts", "answer_status", "test", "created_at", "sent_at")
    list_filter = ("status", "test")
    search_fields = ("=delivery_id", "^channel_name", "title")
    fields = (
        "delivery_id", "channel_name", "title", "test", "status", "attempts", "due_at", "leased_until",
        "answer_status", "answer", "error", "payload", "created_at", "sent_at",
    )  # fmt: skip
