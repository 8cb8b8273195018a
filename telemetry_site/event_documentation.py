"""The page docs/integrate/events.md: every type of event with its JSON schema and an example, from the definitions."""

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import msgspec
from django.apps import apps
from django.conf import settings

from metrics.events.event import event_definitions
from telemetry_site.bus.cloud_event import schema_of
from telemetry_site.bus.data_source import DATA_RECEIVED, DataReceived

NO_CHANNEL = "none (event bus only)"
_INTRODUCTION = """\
# Events

Every change below is stored as an event in the transaction of the change: both are committed or neither. The
[event bus](event-bus.md) sends all events; `/ws/live` and `/sse/live` send those of a channel to the users who may see
them. This page is generated from the definitions:
`WRITE_EVENT_PAGE=1 make test PYTEST_ARGS=tests/telemetry_site/test_event_documentation.py`.

An event looks the same everywhere:

```json
{envelope}
```

- `id` identifies the event. It may be delivered more than once: ignore an `id` that you have seen.
- `subject` is the kind of the object, a slash and its id. Events of one subject arrive in the order of the changes.
- `time` is when the change was made (UTC). The event arrives after the transaction was committed.
- `data` has at least the fields below; ignore fields that you do not know. The state of an alert or rule is the one
  after the change. Events with `"shadow": true` belong to shadow rules, which send no notifications.
- On live streams, users who see only some devices get the events of these devices. Events of a job go to the user who
  ordered it only, and to no user if an API key did.

| type | channel of `/ws/live` | sent when |
|---|---|---|
"""
_TIME = "2026-11-29T08:00:00.000000Z"
_ID = "019acf3a-5c00-7a31-9d2e-4b7c5a1f0e66"
# The value of each field in the examples, by its name; each type of event is checked to accept it.
_EXAMPLES: dict[str, Any] = {
    "alert_id": "alt_5f0c2b9a41d7e836",
    "by": "user:mei",
    "change": "commented",
    "changed": ["level", "threshold_value", "version"],
    "data_type": "numeric",
    "detail": "these devices and metrics have no data in this range",
    "device_id": "boiler-3",
    "device_ids": ["boiler-3"],
    "enabled": True,
    "ends_at": "2026-11-29T12:00:00Z",
    "expires_at": "2026-11-29T08:02:00Z",
    "format": "csv",
    "groups": ["site a"],
    "job_id": "exp_0f3b6a1c9d2e4f587a60",
    "kind": "maintenance",
    "last_seen": "2026-11-29T07:54:58Z",
    "level": "warning",
    "max_frequency": 1000,
    "message": "temperature 97.5 > 80 at boiler-3",
    "metric_id": "met_5b1f0c9a7e34",
    "metric_name": "temperature",
    "metric_names": ["temperature"],
    "metrics": ["pressure", "temperature"],
    "mode": "live",
    "name": "Boiler in the cellar",
    "note": "pump replaced",
    "offline_after_seconds": 300,
    "owner_name": "user:mei",
    "points": 120,
    "progress": 0.5,
    "reason": "yearly inspection",
    "resolution": "recovered",
    "resolved_at": "2026-11-29T08:00:00Z",
    "rows": 86400,
    "rule_id": "rule_d75ba37efebd2875",
    "rule_name": "Too hot",
    "sequence": 48213,
    "sequence_to": 48260,
    "shadow": False,
    "shard": 0,
    "silence_id": "sil_8e2f60b1c4a97d35",
    "starts_at": "2026-11-29T08:00:00Z",
    "status": "acknowledged",
    "subscription_id": "sub_Zk3Qm8Tt0VxYw1RbN5cLpHd7",
    "tags": {"site": "north"},
    "threshold": 80,
    "time_from": "2026-11-29T07:59:00Z",
    "time_to": "2026-11-29T07:59:59Z",
    "triggered_at": "2026-11-29T07:58:00Z",
    "unit": "celsius",
    "user_id": 7,
    "value": 97.5,
    "version": 2,
    "worst_value": 99.1,
}
_OF_TYPE: dict[str, dict[str, Any]] = {  # where the value of another type would mislead
    "alert.triggered": {"status": "active", "owner_name": "", "by": "evaluator", "note": ""},
    "alert.resolved": {"status": "resolved", "by": "evaluator", "note": ""},
    "alert.assigned": {"note": "user:mei"},
    "alert.rule.created": {"name": "Too hot", "version": 1},
    "alert.rule.updated": {"name": "Too hot"},
    "alert.rule.deleted": {"name": "Too hot"},
    "device.updated": {"changed": ["location"]},
    "metric.defined": {"name": "temperature"},
    "metric.updated": {"name": "temperature", "changed": ["unit"]},
    "metric.deleted": {"name": "temperature"},
    "silence.created": {"alert_id": ""},
    "silence.updated": {"alert_id": "", "changed": ["ends_at"]},
    "silence.deleted": {"alert_id": ""},
    "job.created": {"status": "queued", "progress": 0.0, "rows": 0},
    "job.progressed": {"status": "running"},
    "job.finished": {"status": "done", "progress": 1.0},
    "job.failed": {"status": "failed", "progress": 0.0, "rows": 0},
}


def load_definitions() -> None:
    """Import what the running site imports, so that the registry has every type that it can record."""
    import_module(settings.ROOT_URLCONF)
    import_module(settings.ASGI_APPLICATION.rpartition(".")[0])


def render_page() -> str:
    """Return the content of docs/integrate/events.md."""
    load_definitions()
    rows, sections = [], []
    for event_type, channel, definition in _all_types():
        link = f"[`{event_type}`](#{event_type.replace('.', '')})"
        rows.append(f"| {link} | {channel} | {_first_paragraph(definition)} |")
        sections.append(_section(event_type, channel, definition))
    return _INTRODUCTION.format(envelope=_json(_envelope())) + "\n".join(rows) + "\n" + "".join(sections)


def example_data(event_type: str, definition: type[msgspec.Struct]) -> dict[str, Any]:
    """Return an example of the data of a type. Raises KeyError for a field without an example."""
    values = _EXAMPLES | _OF_TYPE.get(event_type, {})
    return {field.name: values[field.name] for field in msgspec.structs.fields(definition)}


def _all_types() -> Iterator[tuple[str, str, type[msgspec.Struct]]]:
    types: dict[str, tuple[str, type[msgspec.Struct]]] = {
        definition.type: (f"`{definition.channel}`" if definition.channel else NO_CHANNEL, definition)
        for definition in event_definitions()
        if apps.get_containing_app_config(definition.__module__) is not None  # not those of tests
    }
    types[DATA_RECEIVED] = (NO_CHANNEL, DataReceived)
    for name, (channel, definition) in sorted(types.items()):
        yield name, channel, definition


def _section(event_type: str, channel: str, definition: type[msgspec.Struct]) -> str:
    example = msgspec.to_builtins(msgspec.convert(example_data(event_type, definition), definition))
    _, components = msgspec.json.schema_components([definition], ref_template="#/$defs/{name}")
    schema = components[definition.__name__] | {"title": event_type, "$id": schema_of(event_type)}
    return (
        f"\n## {event_type}\n\n{_description(definition)}\n\nChannel: {channel}.\n\n"
        f"```json\n{_json(example)}\n```\n\nJSON schema of `data`:\n\n```json\n{_json(schema)}\n```\n"
    )


def _envelope() -> Mapping[str, Any]:
    return {
        "id": _ID,
        "type": "device.created",
        "subject": "device/boiler-3",
        "time": _TIME,
        "data": {"device_id": "boiler-3", "name": "Boiler in the cellar"},
    }


def _description(definition: type[msgspec.Struct]) -> str:
    lines = [line.strip() for line in (definition.__doc__ or "").strip().splitlines()]
    return "\n".join(lines)


def _first_paragraph(definition: type[msgspec.Struct]) -> str:
    return " ".join(_description(definition).partition("\n\n")[0].splitlines())


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
