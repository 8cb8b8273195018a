"""Admin of the feedback on anomalies: deleting one undoes its effect on the threshold of its series."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from alerts.models import AnomalyFeedback
from metrics.admin.base import ReadOnlyAdmin


@admin.register(AnomalyFeedback)
class AnomalyFeedbackAdmin(ReadOnlyAdmin):
    help = (
        "Answers of people on alerts of anomaly rules; each moves the notification threshold of its series. Deleting"
        " one undoes its effect."
    )
    list_display = ("alert_id", "device_name", "metric_name", "is_anomaly", "by", "at")
    list_filter = ("is_anomaly",)
    search_fields = ("=alert_id", "^device_name", "^metric_name")
    fields = ("alert_id", "device_name", "metric_name", "is_anomaly", "gravity", "by", "at")

    def has_delete_permission(self, request: HttpRequest, obj: AnomalyFeedback | None = None) -> bool:
        return super(admin.ModelAdmin, self).has_delete_permission(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for feedback in queryset:  # one by one, so that evaluators read the thresholds again
            feedback.delete()
