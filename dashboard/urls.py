from django.urls import path

from dashboard.views import devices, exports, overview, rejected

app_name = "dashboard"
urlpatterns = [
    path("", overview.overview, name="overview"),
    path("situation/", overview.situation_part, name="situation"),
    path("devices/", devices.device_list, name="devices"),
    path("exports/", exports.exports, name="exports"),
    path("exports/names/devices/", exports.device_names, name="export_devices"),
    path("exports/names/metrics/", exports.metric_names, name="export_metrics"),
    path("rejected/", rejected.inbox, name="rejected"),
    path("rejected/replay/", rejected.replay_all, name="replay_all"),
    path("rejected/<int:number>/replay/", rejected.replay_row, name="replay_row"),
    path("rejected/<int:number>/dismiss/", rejected.dismiss, name="dismiss_row"),
    # `path`, because the id of a device may hold slashes; `recent` therefore stands in front.
    path("recent/<path:device_id>/", devices.recent, name="recent"),
    path("devices/<path:device_id>/", devices.device_page, name="device"),
]
