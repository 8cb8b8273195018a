"""Examples of the API, mostly from the PRD, for its OpenAPI description."""

from typing import Any

from rest.responses import page_example

DEFINITION: dict[str, Any] = {
    "name": "battery_level",
    "description": "Device battery percentage",
    "data_type": "numeric",
    "metric_type": "gauge",
    "unit": "percent",
    "min_value": 0,
    "max_value": 100,
    "retention_days": 90,
    "aggregation_interval": 60,
}
CREATED_DEFINITION: dict[str, Any] = {
    "metric_id": "met_0123456789ab",
    **DEFINITION,
    "rollup_5m_days": 180,
    "rollup_1h_days": 1825,
    "tags": [],
    "metadata": {},
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
    "created_by": "admin_001",
}
DEFINITIONS = page_example(
    "metrics",
    CREATED_DEFINITION,
    filters={"data_type": "numeric", "metric_type": None, "unit": None, "search": None},
)
AUDIT_ENTRY = {
    "number": 42,
    "at": "2025-12-17T10:00:00Z",
    "actor": "user:mei",
    "request_id": "0193d1c0f6a87b2e",
    "address": "192.0.2.10",
    "action": "changed",
    "object_type": "metric definition",
    "object_id": "temperature",
    "before": {"retention_days": 90},
    "after": {"retention_days": 30},
    "checksum": "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4",
}
AUDIT = page_example("entries", AUDIT_ENTRY)
QUESTION = {
    "devices": ["device_001"],
    "metrics": ["temperature", "humidity"],
    "start_time": "2025-12-17T00:00:00Z",
    "end_time": "2025-12-18T00:00:00Z",
    "aggregation": "avg",
    "interval": 3600,
    "limit": 1000,
}
_MEAN = {
    "timestamp": "2025-12-17T00:00:00Z",
    "metric_name": "temperature",
    "value": 24.5,
    "unit": "celsius",
    "count": 6,
}
ANSWER: dict[str, Any] = {
    "device_id": "device_001",
    "metric_name": "temperature",
    "data_points": [_MEAN],
    "count": 1,
    "aggregation": "avg",
    "interval": 3600,
    "start_time": "2025-12-17T00:00:00Z",
    "end_time": "2025-12-18T00:00:00Z",
    "truncated": False,
    "next_cursor": None,
}
RANGE = ANSWER | {
    "data_points": [
        {
            "timestamp": "2025-12-17T10:00:00Z",
            "metric_name": "temperature",
            "value": 25.5,
            "unit": "celsius",
            "tags": {"location": "room_1"},
            "metadata": {},
        }
    ],
    "aggregation": None,
    "interval": None,
}
AGGREGATED_QUESTION = {
    "metric_name": "temperature",
    "aggregation_type": "avg",
    "interval": 3600,
    "start_time": "2025-12-17T00:00:00Z",
    "end_time": "2025-12-18T00:00:00Z",
}
AGGREGATED = {
    "metric_name": "temperature",
    "device_id": None,
    "aggregation_type": "avg",
    "interval": 3600,
    "unit": "celsius",
    "start_time": "2025-12-17T00:00:00Z",
    "end_time": "2025-12-18T00:00:00Z",
    "data_points": [{"timestamp": "2025-12-17T00:00:00Z", "value": 24.5, "count": 12}],
    "count": 1,
    "truncated": False,
    "next_cursor": None,
}
LATEST = {
    "device_id": "device_001",
    "metric_name": "temperature",
    "value": 25.5,
    "unit": "celsius",
    "timestamp": "2025-12-18T10:00:00Z",
    "tags": {},
    "metadata": {},
}
EXPORT: dict[str, Any] = {
    "device_ids": ["device_001"],
    "metric_names": ["temperature"],
    "start_time": "2025-12-17T00:00:00Z",
    "end_time": "2025-12-18T00:00:00Z",
}
CSV = (
    "timestamp,device_id,metric_name,value,unit,tags\r\n"
    '2025-12-17T10:00:00Z,device_001,temperature,25.5,celsius,"{""location"":""room_1""}"\r\n'
)
EXPORT_JOB: dict[str, Any] = {
    "id": "exp_0123456789abcdef0123",
    "status": "done",
    "progress": 1.0,
    "rows": 1440,
    "bytes": 96800,
    "detail": "",
    "incomplete": [],
    "owner": "key:1:analytics",
    "format": "csv",
    "bom": False,
    "delimiter": ",",
    "decimal": ".",
    **EXPORT,
    "aggregation": None,
    "interval": None,
    "fill": "none",
    "timezone": "UTC",
    "group_by": "series",
    "created_at": "2025-12-18T10:00:00Z",
    "started_at": "2025-12-18T10:00:01Z",
    "finished_at": "2025-12-18T10:00:03Z",
    "expires_at": "2025-12-19T10:00:03Z",
}
QUEUED_JOB = {
    "status": "queued",
    "format": "parquet",
    "progress": 0.0,
    "rows": 0,
    "bytes": 0,
    "started_at": None,
    "finished_at": None,
    "expires_at": None,
}
DEVICE: dict[str, Any] = {
    "device_id": "device_001",
    "name": "Press 1",
    "device_type": "press",
    "description": "",
    "location": "Hall 3",
    "latitude": 52.52,
    "longitude": 13.405,
    "expected_interval": 10,
    "tags": {"line": "2"},
    "metadata": {},
    "groups": ["site a"],
}
CREATED_DEVICE: dict[str, Any] = DEVICE | {
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
    "last_seen": "2025-12-18T10:00:00Z",
}
DEVICES = page_example(
    "devices", CREATED_DEVICE, filters={"search": None, "group": "site a", "device_type": None, "tag": None}
)
DEVICES_CSV = (
    "device_id,name,device_type,expected_interval,latitude,longitude,location,groups,tags\r\n"
    'device_001,Press 1,press,10,52.52,13.405,Hall 3,site a,"{""line"":""2""}"\r\n'
)
IMPORTED: dict[str, Any] = {
    "created": 1,
    "updated": 0,
    "unchanged": 0,
    "failed": 0,
    "dry_run": False,
    "changes": [{"line": 2, "device_id": "device_001", "action": "create", "fields": ["name", "groups"]}],
    "errors": [],
}
DELETION: dict[str, Any] = {
    "deletion_id": "del_0123456789abcdef0123",
    "device_id": "device_001",
    "status": "queued",
    "progress": 0.0,
    "points": 0,
    "incomplete": [],
    "requested_by": "key:1:provisioning",
    "created_at": "2025-12-18T10:00:00Z",
    "started_at": None,
    "finished_at": None,
}
GROUP: dict[str, Any] = {"name": "site a", "description": "The plant by the river", "members": ["operator_1"]}
CREATED_GROUP: dict[str, Any] = GROUP | {
    "devices": 1,
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
}
