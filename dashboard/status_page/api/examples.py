"""Examples of the API description."""

from typing import Any

PAGE = {"title": "Example status", "slug": "example", "time_zone": "Europe/Berlin"}
CREATED_PAGE = {
    "page_id": "page_0123456789abcdef",
    "slug": "example",
    "host_name": None,
    "title": "Example status",
    "text": "",
    "published": False,
    "time_zone": "Europe/Berlin",
    "created_by": "user:admin",
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
}
COMPONENT = {"name": "Room readings", "device_groups": ["site a"]}
CREATED_COMPONENT: dict[str, Any] = {
    "component_id": "cmp_0123456789abcdef",
    "name": "Room readings",
    "description": "",
    "parent_id": None,
    "position": 0,
    "device_groups": ["site a"],
    "rule_ids": [],
    "tags": {},
    "mode": "worst",
    "partial_percent": 25,
    "major_percent": 50,
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
}
INCIDENT = {
    "title": "Delayed readings",
    "impact": "minor",
    "status": "investigating",
    "text": "Readings from one site are delayed.",
    "component_ids": ["cmp_0123456789abcdef"],
}
UPDATE = {"status": "resolved", "text": "All readings have arrived."}
CREATED_UPDATE = UPDATE | {
    "update_id": "upd_0123456789abcdef",
    "at": "2025-12-18T11:00:00Z",
    "created_by": "user:admin",
}
CREATED_INCIDENT = {
    "incident_id": "sin_0123456789abcdef",
    "title": "Delayed readings",
    "status": "investigating",
    "impact": "minor",
    "component_ids": ["cmp_0123456789abcdef"],
    "starts_at": "2025-12-18T10:00:00Z",
    "closed_at": None,
    "updates": [
        CREATED_UPDATE
        | {"status": "investigating", "text": "Readings from one site are delayed.", "at": "2025-12-18T10:00:00Z"}
    ],
    "created_by": "user:admin",
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
}
MAINTENANCE = {
    "title": "New network",
    "text": "Short breaks are possible.",
    "component_ids": ["cmp_0123456789abcdef"],
    "starts_at": "2025-12-20T20:00:00Z",
    "ends_at": "2025-12-20T22:00:00Z",
}
CREATED_MAINTENANCE = (
    {name: value for name, value in CREATED_INCIDENT.items() if name != "impact"}
    | {name: value for name, value in MAINTENANCE.items() if name != "text"}
    | {
        "status": "scheduled",
        "updates": [
            CREATED_UPDATE | {"status": "scheduled", "text": "Short breaks are possible.", "at": "2025-12-18T10:00:00Z"}
        ],
    }
)
