from django.urls import path

from dashboard.views import devices, overview

app_name = "dashboard"
urlpatterns = [
    path("", overview.overview, name="overview"),
    path("situation/", overview.situation_part, name="situation"),
    path("devices/", devices.device_list, name="devices"),
    # `path`, because the id of a device may hold slashes; `recent` therefore stands in front.
    path("recent/<path:device_id>/", devices.recent, name="recent"),
    path("devices/<path:device_id>/", devices.device_page, name="device"),
]
