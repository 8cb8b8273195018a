from django.urls import path

from metrics.api import views

urlpatterns = [
    path("latest", views.LatestManyView.as_view()),
    path("devices/<path:device_id>/metrics/<path:metric_name>/latest", views.LatestView.as_view()),
    path("devices/<path:device_id>/metrics/<path:metric_name>/range", views.RangeView.as_view()),
    path("devices/<path:device_id>/metrics", views.DeviceMetricsView.as_view()),
]
