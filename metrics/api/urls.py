from django.urls import path

from metrics.api import statistics
from metrics.api.audit import AuditResource
from metrics.api.definitions import DefinitionResource
from metrics.api.deletions import DeletionResource
from metrics.api.devices import DeviceResource
from metrics.api.devices_csv import DevicesCSVView
from metrics.api.export import ExportJobResource, ExportView
from metrics.api.groups import GroupDeviceResource, GroupResource
from metrics.api.latest_views import DeviceMetricsView, LatestManyView, LatestView, RangeView
from metrics.api.query_views import AggregatedView, QueryView
from rest.resources import COLLECTION, ITEM, LIST, READ_ONLY

urlpatterns = [
    path("audit", AuditResource.as_view(LIST)),
    path("metrics", DefinitionResource.as_view(COLLECTION)),
    path("metrics/<name:metric_name>", DefinitionResource.as_view(ITEM)),
    path("query", QueryView.as_view()),
    path("aggregated", AggregatedView.as_view()),
    path("export/csv", ExportView.as_view()),
    path("export/jobs", ExportJobResource.as_view(COLLECTION)),
    path("export/jobs/<id:export_id>", ExportJobResource.as_view(READ_ONLY)),
    path("export/jobs/<id:export_id>/cancel", ExportJobResource.as_view({"post": "cancel"})),
    path("export/jobs/<id:export_id>/download", ExportJobResource.as_view({"get": "download"})),
    path("latest", LatestManyView.as_view()),
    path("devices/<name:device_id>/metrics/<name:metric_name>/latest", LatestView.as_view()),
    path("devices/<name:device_id>/metrics/<name:metric_name>/range", RangeView.as_view()),
    path("stats", statistics.ServiceStatisticsView.as_view()),
    path("devices/<name:device_id>/stats", statistics.DeviceStatisticsView.as_view()),
    path("devices/<name:device_id>/metrics", DeviceMetricsView.as_view()),
    path("devices", DeviceResource.as_view(COLLECTION)),
    path("devices.csv", DevicesCSVView.as_view()),  # not under `devices/`, where it could be the ID of a device
    path("deletions", DeletionResource.as_view(LIST)),
    path("deletions/<id:deletion_id>", DeletionResource.as_view(READ_ONLY)),
    path("groups", GroupResource.as_view(COLLECTION)),
    path("groups/<name:name>/devices", GroupDeviceResource.as_view(LIST | {"post": "add", "delete": "remove"})),
    path("groups/<name:name>", GroupResource.as_view(ITEM)),
    path("devices/<name:device_id>", DeviceResource.as_view(ITEM)),  # last: a device ID may contain slashes
]
