"""Events of the rows of models, whichever view, form, command or cascade changes them.

The audit sees every change that is made through Django's models (metrics.audit.model_changes) and passes it on to
`record_change`. Bulk changes that bypass Django's models record their events themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from django.db.models import Model

from metrics.events.definitions import (
    DeviceCreated,
    DeviceDeleted,
    DeviceUpdated,
    MetricDefined,
    MetricDeleted,
    MetricUpdated,
)
from metrics.events.event import EventData
from metrics.events.outbox import record_event

Action = Literal["created", "changed", "deleted"]
EventMaker = Callable[[Action, Any, list[str]], EventData | None]  # action, row, names of the changed fields

_makers: dict[type[Model], EventMaker] = {}


def announce_model(model: type[Model], make_event: EventMaker) -> None:
    """Record the event that `make_event` returns for each change of a row."""
    _makers[model] = make_event


def record_change(action: Action, row: Model, changed: Sequence[str] = ()) -> None:
    """Record the event of a change in the current transaction, if its model has events."""
    maker = _makers.get(type(row))
    event = None if maker is None else maker(action, row, sorted(set(changed) - {"updated_at"}))
    if event is not None:
        record_event(event)


def device_event(action: Action, device: Any, changed: list[str]) -> EventData:
    """Return the event of a change of a device."""
    if action == "created":
        return DeviceCreated(device_id=device.device_id, name=device.name)
    if action == "changed":
        return DeviceUpdated(device_id=device.device_id, name=device.name, changed=changed)
    return DeviceDeleted(device_id=device.device_id)


def metric_event(action: Action, definition: Any, changed: list[str]) -> EventData:
    """Return the event of a change of a metric definition."""
    fields = {name: getattr(definition, name) for name in ("name", "metric_id", "data_type", "unit")}
    if action == "changed":
        return MetricUpdated(**fields, changed=changed)
    return (MetricDefined if action == "created" else MetricDeleted)(**fields)
