from django.urls import path

from metrics.api import definitions, questions, views

urlpatterns = [
    path("metrics", definitions.DefinitionsView.as_view()),
    path("metrics/<path:metric_name>", definitions.DefinitionView.as_view()),
    path("query", questions.QueryView.as_view()),
    path("aggregated", questions.AggregatedView.as_view()),
    path("latest", views.LatestManyView.as_view()),
    path("devices/<path:device_id>/metrics/<path:metric_name>/latest", views.LatestView.as_view()),
    path("devices/<path:device_id>/metrics/<path:metric_name>/range", views.RangeView.as_view()),
    path("devices/<path:device_id>/metrics", views.DeviceMetricsView.as_view()),
]
