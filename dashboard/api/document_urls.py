"""Addresses at the root of the site: status, history, alerts and patterns."""

from django.urls import path

from dashboard.api import agents, alerts, history, status

urlpatterns = [
    path("telemetry/status", status.StatusView.as_view()),
    path("telemetry/public", status.PublicView.as_view()),
    path("telemetry/history", history.HistoryView.as_view()),
    path("dashboard/agents", agents.OldAgentsView.as_view()),
    path("dashboard", status.DashboardView.as_view()),
    path("alerts", alerts.RecentAlertsView.as_view()),
    path("patterns", alerts.RecentPatternsView.as_view()),
]
