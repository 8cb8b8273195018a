from django.urls import path

from alerts.api.alerts import AlertResource
from alerts.api.anomalies import AnomaliesView
from alerts.api.backtests import BacktestView
from alerts.api.bulk_actions import BulkView
from alerts.api.channels import ChannelResource
from alerts.api.deliveries import DeliveryResource, NoticeResource
from alerts.api.evaluation_metrics import EvaluationMetricsView
from alerts.api.maintenance import MaintenanceView
from alerts.api.patterns import PatternResource
from alerts.api.routes import RouteResource
from alerts.api.rules import RuleResource, RuleVersionResource
from alerts.api.shadow_comparison import ComparisonView
from alerts.api.silences import SilencePreviewView, SilenceResource
from alerts.api.traces import AlertTraceView, RuleTraceView
from rest.resources import COLLECTION, ITEM, LIST, READ_ONLY

urlpatterns = [
    path("alerts", AlertResource.as_view(LIST)),
    path("alerts/rules", RuleResource.as_view(COLLECTION)),
    path("alerts/rules/<id:rule_id>", RuleResource.as_view(ITEM | {"put": "update"})),
    path("alerts/rules/<id:rule_id>/enable", RuleResource.as_view({"put": "enable"})),
    path("alerts/rules/<id:rule_id>/versions", RuleVersionResource.as_view(LIST)),
    path("alerts/rules/<id:rule_id>/versions/<int:version>", RuleVersionResource.as_view(READ_ONLY)),
    path("alerts/rules/<id:rule_id>/versions/<int:version>/rollback", RuleResource.as_view({"post": "rollback"})),
    path("alerts/rules/<id:rule_id>/shadow", RuleResource.as_view({"post": "create_shadow"})),
    path("alerts/rules/<id:rule_id>/comparison", ComparisonView.as_view()),
    path("alerts/rules/<id:rule_id>/trace", RuleTraceView.as_view()),
    path("alerts/rules/<id:rule_id>/promote", RuleResource.as_view({"post": "promote"})),
    path("alerts/backtest", BacktestView.as_view()),
    path("alerts/silences", SilenceResource.as_view(COLLECTION)),
    path("alerts/silences/preview", SilencePreviewView.as_view()),
    path("alerts/silences/<id:silence_id>", SilenceResource.as_view(ITEM)),
    path("alerts/channels", ChannelResource.as_view(COLLECTION)),
    path("alerts/channels/<id:channel_id>", ChannelResource.as_view(ITEM)),
    path("alerts/channels/<id:channel_id>/test", ChannelResource.as_view({"post": "test"})),
    path("alerts/routes", RouteResource.as_view(COLLECTION)),
    path("alerts/routes/<id:route_id>", RouteResource.as_view(ITEM)),
    path("alerts/bulk", BulkView.as_view()),
    path("alerts/deliveries", DeliveryResource.as_view(LIST)),
    path("alerts/metrics", EvaluationMetricsView.as_view()),
    path("alerts/patterns", PatternResource.as_view(LIST)),
    path("alerts/<id:alert_id>", AlertResource.as_view(READ_ONLY)),  # after all other paths of this length
    path("alerts/<id:alert_id>/acknowledge", AlertResource.as_view({"put": "acknowledge"})),
    path("alerts/<id:alert_id>/resolve", AlertResource.as_view({"put": "resolve"})),
    path("alerts/<id:alert_id>/assign", AlertResource.as_view({"put": "assign"})),
    path(
        "alerts/<id:alert_id>/feedback",
        AlertResource.as_view({"put": "give_feedback", "delete": "withdraw_feedback"}),
    ),
    path("alerts/<id:alert_id>/comments", AlertResource.as_view({"post": "comment"})),
    path("devices/<name:device_id>/metrics/<name:metric_name>/anomalies", AnomaliesView.as_view()),
    path("devices/<name:device_id>/maintenance", MaintenanceView.as_view()),
    path("alerts/<id:alert_id>/trace", AlertTraceView.as_view()),
    path("alerts/<id:alert_id>/notices", NoticeResource.as_view(LIST)),
]
