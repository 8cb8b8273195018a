from django.urls import path

from metrics.api import (
    audit,
    definitions,
    deletions,
    device_list,
    devices,
    export,
    groups,
    questions,
    statistics,
    views,
)

urlpatterns = [
    path("audit", audit.AuditView.as_view()),
    path("metrics", definitions.DefinitionsView.as_view()),
    path("metrics/<path:metric_name>", definitions.DefinitionView.as_view()),
    path("query", questions.QueryView.as_view()),
    path("aggregated", questions.AggregatedView.as_view()),
    path("export/csv", export.ExportView.as_view()),
    path("export/jobs", export.ExportJobsView.as_view()),
    path("export/jobs/<str:export_id>", export.ExportJobView.as_view()),
    path("export/jobs/<str:export_id>/cancel", export.ExportCancelView.as_view()),
    path("export/jobs/<str:export_id>/download", export.ExportDownloadView.as_view()),
    path("latest", views.LatestManyView.as_view()),
    path("devices/<path:device_id>/metrics/<path:metric_name>/latest", views.LatestView.as_view()),
    path("devices/<path:device_id>/metrics/<path:metric_name>/range", views.RangeView.as_view()),
    path("stats", statistics.ServiceStatisticsView.as_view()),
    path("devices/<path:device_id>/stats", statistics.DeviceStatisticsView.as_view()),
    path("devices/<path:device_id>/metrics", views.DeviceMetricsView.as_view()),
    path("devices", devices.DevicesView.as_view()),
    path("devices.csv", device_list.DeviceListView.as_view()),  # beside `devices/`, where it might be a device's id
    path("deletions", deletions.DeletionsView.as_view()),
    path("deletions/<str:deletion_id>", deletions.DeletionView.as_view()),
    path("groups", groups.GroupsView.as_view()),
    path("groups/<path:name>/devices", groups.GroupDevicesView.as_view()),
    path("groups/<path:name>", groups.GroupView.as_view()),
    path("devices/<path:device_id>", devices.DeviceView.as_view()),  # last: any id fits it, slashes and all
]
