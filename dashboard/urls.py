"""Addresses of the pages."""

from django.urls import path

from dashboard.views import (
    agents,
    alert,
    alert_actions,
    channels,
    devices,
    exports,
    inbox,
    overview,
    patterns,
    rejected,
    rules,
    silences,
    user_settings,
)
from dashboard.views.access import require_login

app_name = "dashboard"
urlpatterns = [
    path("", overview.overview, name="overview"),
    path("overview/alerts/", overview.open_alerts, name="open_alerts"),
    path("overview/devices/", overview.device_summary, name="device_summary"),
    path("devices/", devices.device_list, name="devices"),
    path("exports/", exports.exports, name="exports"),
    path("exports/names/devices/", exports.device_names, name="export_devices"),
    path("exports/names/metrics/", exports.metric_names, name="export_metrics"),
    path("alerts/", inbox.inbox, name="alerts"),
    path("alerts/updates/", inbox.alert_updates, name="alert_updates"),
    path("alerts/sparklines/", inbox.sparklines, name="alert_sparklines"),
    path("alerts/act/", alert_actions.act, name="alert_action"),
    path("alerts/<id:alert_id>/", alert.alert_page, name="alert"),
    path("alerts/<id:alert_id>/feedback/", alert_actions.give_alert_feedback, name="alert_feedback"),
    path("alerts/<id:alert_id>/silence/", silences.silence_alert, name="silence_alert"),
    path("rules/", rules.rule_list, name="rules"),
    path("rules/new/", rules.rule_page, name="new_rule"),
    path("rules/check/", rules.check_rule, name="check_rule"),
    path("rules/<id:rule_id>/", rules.rule_page, name="rule"),
    path("rules/<id:rule_id>/switch/", rules.switch_rule, name="switch_rule"),
    path("rules/<id:rule_id>/restore/", rules.restore_version, name="restore_rule_version"),
    path("rules/<id:rule_id>/promote/", rules.promote, name="promote_rule"),
    path("rules/<id:rule_id>/delete/", rules.delete, name="delete_rule"),
    path("silences/", silences.silence_list, name="silences"),
    path("silences/<id:silence_id>/end/", silences.end_silence, name="end_silence"),
    path("channels/", channels.channel_list, name="channels"),
    path("channels/new/", channels.channel_page, name="new_channel"),
    path("channels/routes/new/", channels.route_page, name="new_route"),
    path("channels/routes/<id:route_id>/", channels.route_page, name="route"),
    path("channels/routes/<id:route_id>/delete/", channels.delete_route, name="delete_route"),
    path("channels/<id:channel_id>/", channels.channel_page, name="channel"),
    path("channels/<id:channel_id>/test/", channels.test_channel, name="test_channel"),
    path("channels/<id:channel_id>/delete/", channels.delete_channel, name="delete_channel"),
    path("settings/", user_settings.user_settings, name="settings"),
    path("patterns/", patterns.pattern_list, name="patterns"),
    path("rejected/", rejected.inbox, name="rejected"),
    path("rejected/replay/", rejected.replay_all, name="replay_all"),
    path("rejected/<int:number>/replay/", rejected.replay_row, name="replay_row"),
    path("rejected/<int:number>/dismiss/", rejected.dismiss, name="dismiss_row"),
    # The ID of a device may contain slashes, so `recent` comes first.
    path("recent/<name:device_id>/", devices.recent, name="recent"),
    path("agent/<name:device_id>/", agents.agent_page, name="agent"),
    path("devices/<name:device_id>/", devices.device_page, name="device"),
]
# Every page requires a login.
for pattern in urlpatterns:
    pattern.callback = require_login(pattern.callback)
