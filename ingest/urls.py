from django.urls import path

from ingest.views import BatchView, BulkView, PointView

urlpatterns = [
    path("bulk", BulkView.as_view()),
    path("devices/<path:device_id>/telemetry", PointView.as_view()),
    path("devices/<path:device_id>/telemetry/batch", BatchView.as_view()),
]
