from django.urls import path

from ingest.views import IngestView

urlpatterns = [
    path("bulk", IngestView.as_view(door="bulk")),
    path("devices/<path:device_id>/telemetry", IngestView.as_view(door="single")),
    path("devices/<path:device_id>/telemetry/batch", IngestView.as_view(door="batch")),
]
