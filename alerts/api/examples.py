"""Examples of the alerting API, for its OpenAPI description."""

from typing import Any

from rest.responses import page_example

RULE: dict[str, Any] = {
    "name": "High CPU Usage",
    "description": "Alert when CPU exceeds 90%",
    "metric_name": "cpu_percent",
    "condition": ">",
    "threshold_value": 90,
    "evaluation_window": 300,
    "trigger_count": 3,
    "level": "warning",
    "device_ids": [],
    "notification_channels": ["slack", "email"],
    "cooldown_minutes": 15,
    "auto_resolve": True,
    "auto_resolve_timeout": 600,
}
CREATED_RULE: dict[str, Any] = {
    "rule_id": "rule_0123456789abcdef",
    **RULE,
    "runbook_url": "",
    "enabled": True,
    "kind": "threshold",
    "clear_threshold": None,
    "aggregation": "",
    "parameters": {},
    "device_groups": [],
    "mode": "live",
    "shadow_of": None,
    "version": 1,
    "total_triggers": 0,
    "last_triggered": None,
    "suspended": "",
    "unconfigured_channels": ["slack", "email"],
    "unknown_metric": False,
    "unknown_devices": [],
    "unknown_groups": [],
    "other_devices": False,
    "noise": None,
    "created_by": "user:mei",
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
}
VERSION: dict[str, Any] = {
    "version": 1,
    "by": "user:mei",
    "at": "2025-12-18T10:00:00Z",
    "note": "",
    "document": {"threshold_value": 90},
}
ALERT: dict[str, Any] = {
    "alert_id": "alt_0123456789abcdef",
    "rule_id": "rule_0123456789abcdef",
    "rule_name": "High CPU Usage",
    "rule_version": 1,
    "device_id": "device_001",
    "metric_name": "cpu_percent",
    "level": "warning",
    "severity": "warning",
    "status": "active",
    "shadow": False,
    "retroactive": False,
    "value": 97.5,
    "worst_value": 99.1,
    "threshold_value": 90,
    "message": "cpu_percent of device_001 is 97.5 %, over 90 %",
    "description": "Alert when CPU exceeds 90%",
    "runbook_url": "",
    "triggered_at": "2025-12-18T10:00:00Z",
    "raised_at": "2025-12-18T10:00:00.312Z",
    "last_breach_at": "2025-12-18T10:04:00Z",
    "acknowledged_by": "",
    "acknowledged_at": None,
    "acknowledgement_note": "",
    "resolved_by": "",
    "resolved_at": None,
    "resolution": "",
    "resolution_note": "",
    "owner": "",
    "incident_id": None,
    "updated_at": "2025-12-18T10:04:00Z",
}
ALERTS = page_example("alerts", ALERT, active_count=1, critical_count=0, filters={"status": "active"})
WHOLE_ALERT = ALERT | {
    "evidence": {"values": [91.0, 92.5, 97.5]},
    "timeline": [
        {"at": "2025-12-18T10:00:00.312Z", "kind": "triggered", "by": "evaluator", "note": "", "details": {}},
    ],
    "feedback": None,
}
WITH_FEEDBACK = WHOLE_ALERT | {
    "feedback": {"is_anomaly": False, "by": "user:mei", "at": "2025-12-18T10:35:00Z"},
}
ACKNOWLEDGED = WHOLE_ALERT | {
    "status": "acknowledged",
    "acknowledged_by": "user:mei",
    "acknowledged_at": "2025-12-18T10:05:00Z",
    "acknowledgement_note": "Looking into it",
    "owner": "user:mei",
}
RESOLVED = ACKNOWLEDGED | {
    "status": "resolved",
    "resolved_by": "user:mei",
    "resolved_at": "2025-12-18T10:30:00Z",
    "resolution": "person",
    "resolution_note": "Restarted the service",
}
DELIVERY: dict[str, Any] = {
    "delivery_id": "dlv_0123456789abcdef",
    "channel": "on call",
    "title": "[WARNING] cpu_percent of device_001 is 97.5 %, over 90 %",
    "test": False,
    "status": "failed",
    "attempts": 10,
    "due_at": "2025-12-18T10:49:00Z",
    "created_at": "2025-12-18T10:00:00.400Z",
    "sent_at": None,
    "answer_status": 503,
    "answer": "maintenance",
    "error": "HTTP 503",
}
NOTICE = {
    "channel": "on call",
    "kind": "fired",
    "status": "failed",
    "reason": "",
    "created_at": "2025-12-18T10:00:00.312Z",
    "due_at": "2025-12-18T10:00:00.312Z",
    "delivery": DELIVERY,
}
PATTERN: dict[str, Any] = {
    "kind": "flapping",
    "subject": {"rule_id": "rule_0123456789abcdef", "device_id": "device_001"},
    "support": 14,
    "confidence": 0.93,
    "description": "High CPU Usage of device_001 was raised 14 times in 24 hours, each time for less than 5 minutes",
    "devices": ["device_001"],
    "found_at": "2025-12-18T10:00:00Z",
}
CHANNEL: dict[str, Any] = {"name": "on call", "kind": "webhook", "url": "https://hooks.example.com/services/T0/B1"}
CREATED_CHANNEL: dict[str, Any] = {
    "channel_id": "chn_0123456789abcdef",
    "name": "on call",
    "kind": "webhook",
    "target": "https://hooks.example.com",
    "addresses": [],
    "action": "",
    "has_secret": False,
    "enabled": True,
    "gather_seconds": 0,
    "send_resolved": True,
    "created_by": "user:mei",
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
}
ROUTE: dict[str, Any] = {
    "name": "nights",
    "levels": ["critical", "emergency"],
    "weekly": {"days": [0, 1, 2, 3, 4], "from": "18:00", "to": "08:00", "timezone": "Europe/Berlin"},
    "channels": ["on call"],
    "escalation": [{"after_minutes": 15, "channels": ["plant manager"]}],
}
CREATED_ROUTE: dict[str, Any] = {
    "route_id": "rte_0123456789abcdef",
    **ROUTE,
    "enabled": True,
    "device_groups": [],
    "repeat_minutes": None,
    "unconfigured_channels": ["plant manager"],
    "created_by": "user:mei",
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
}
SILENCE: dict[str, Any] = {
    "device_groups": ["site a"],
    "levels": ["info", "warning"],
    "ends_at": "2025-12-18T18:00:00Z",
    "reason": "The cooling is being renewed",
}
CREATED_SILENCE: dict[str, Any] = {
    "silence_id": "sil_0123456789abcdef",
    "kind": "silence",
    "active": True,
    "other_devices": False,
    "device_ids": [],
    "metric_names": [],
    "rule_ids": [],
    "alert_id": "",
    "starts_at": "2025-12-18T10:00:00Z",
    "weekly": None,
    **SILENCE,
    "created_by": "user:mei",
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
}
