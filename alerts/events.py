"""Events of alerts, alert rules and silences."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from alerts.models import Alert, EventKind
from metrics.events.event import EventData
from metrics.events.model_changes import Action
from metrics.events.outbox import record_events

_READ_BATCH = 5_000  # alerts


class AlertEventData(EventData, frozen=True, kw_only=True):
    """An event about one alert: its state after the change, and who made the change.

    device_id  remains after the device is deleted
    shadow     the alert of a shadow rule, which sends no notifications
    """

    channel = "alerts"
    alert_id: str
    rule_id: str | None
    rule_name: str
    device_id: str
    metric_name: str
    level: str
    status: str
    shadow: bool
    value: Any
    worst_value: Any
    message: str
    owner_name: str
    triggered_at: datetime
    by: str
    note: str

    @property
    def subject(self) -> str:
        return f"alert/{self.alert_id}"

    @property
    def visible_device(self) -> str | None:
        return self.device_id


class AlertTriggered(AlertEventData, frozen=True, kw_only=True):
    """An alert was opened."""

    type = "alert.triggered"


class AlertAcknowledged(AlertEventData, frozen=True, kw_only=True):
    """An alert was acknowledged."""

    type = "alert.acknowledged"


class AlertAssigned(AlertEventData, frozen=True, kw_only=True):
    """An alert was assigned to `owner_name`; an empty name means that its owner was removed."""

    type = "alert.assigned"


class AlertResolved(AlertEventData, frozen=True, kw_only=True):
    """An alert was resolved by a person, by recovered values or by the site, see `resolution`."""

    type = "alert.resolved"
    resolution: str
    resolved_at: datetime | None


class AlertUpdated(AlertEventData, frozen=True, kw_only=True):
    """Something else of an alert changed, see `change`: `commented`, `silenced`, `notified`, `failed` (a notification),
    `escalated`, `joined` (an incident) or `worst_value`.
    """

    type = "alert.updated"
    change: str


class RuleEvent(EventData, frozen=True, kw_only=True):
    """An event about one alert rule."""

    channel = "definitions"
    rule_id: str
    name: str
    mode: str
    enabled: bool
    level: str
    metric_name: str
    version: int

    @property
    def subject(self) -> str:
        return f"rule/{self.rule_id}"


class RuleCreated(RuleEvent, frozen=True, kw_only=True):
    """An alert rule was created."""

    type = "alert.rule.created"


class RuleUpdated(RuleEvent, frozen=True, kw_only=True):
    """An alert rule was changed or suspended after an error; `changed` names the fields."""

    type = "alert.rule.updated"
    changed: list[str]


class RuleDeleted(RuleEvent, frozen=True, kw_only=True):
    """An alert rule was deleted; its open alerts were resolved."""

    type = "alert.rule.deleted"


class SilenceEvent(EventData, frozen=True, kw_only=True):
    """An event about one silence or maintenance window."""

    channel = "definitions"
    silence_id: str
    kind: str
    alert_id: str
    starts_at: datetime
    ends_at: datetime
    reason: str

    @property
    def subject(self) -> str:
        return f"silence/{self.silence_id}"


class SilenceCreated(SilenceEvent, frozen=True, kw_only=True):
    """A silence was created."""

    type = "silence.created"


class SilenceUpdated(SilenceEvent, frozen=True, kw_only=True):
    """A silence was changed or ended; `changed` names the fields."""

    type = "silence.updated"
    changed: list[str]


class SilenceDeleted(SilenceEvent, frozen=True, kw_only=True):
    """A silence was deleted."""

    type = "silence.deleted"


_TYPES: Mapping[str, type[AlertEventData]] = {
    EventKind.TRIGGERED: AlertTriggered,
    EventKind.ACKNOWLEDGED: AlertAcknowledged,
    EventKind.ASSIGNED: AlertAssigned,
}
_COLUMNS = (
    "alert_id", "rule__rule_id", "rule_name", "device_name", "metric_name", "level", "status", "shadow", "value",
    "worst_value", "message", "owner", "triggered_at", "resolution", "resolved_at",
)  # fmt: skip
_FIELDS = (
    "alert_id", "rule_id", "rule_name", "device_id", "metric_name", "level", "status", "shadow", "value",
    "worst_value", "message", "owner_name", "triggered_at",
)  # fmt: skip


def record_alert_events(notes: Mapping[int, str], change: str, by: str) -> None:
    """Record a change of alerts that is stored already; `notes` has the note of each by primary key.

    change  a kind of event of the timeline, or `worst_value`
    """
    pks = sorted(notes)
    for first in range(0, len(pks), _READ_BATCH):
        record_events(_read_events(pks[first : first + _READ_BATCH], notes, change, by))


def _read_events(pks: list[int], notes: Mapping[int, str], change: str, by: str) -> Iterator[AlertEventData]:
    for pk, *values in Alert.objects.filter(pk__in=pks).order_by("pk").values_list("pk", *_COLUMNS):
        fields = dict(zip(_FIELDS, values, strict=False)) | {"by": by, "note": notes[pk]}
        if change == EventKind.RESOLVED:
            yield AlertResolved(**fields, resolution=values[-2], resolved_at=values[-1])
        elif change in _TYPES:
            yield _TYPES[change](**fields)
        else:
            yield AlertUpdated(**fields, change=str(change))


def rule_event(action: Action, rule: Any, changed: list[str]) -> EventData:
    """Return the event of a change of an alert rule."""
    names = ("rule_id", "name", "mode", "enabled", "level", "metric_name", "version")
    fields = {name: getattr(rule, name) for name in names}
    if action == "changed":
        return RuleUpdated(**fields, changed=changed)
    return (RuleCreated if action == "created" else RuleDeleted)(**fields)


def silence_event(action: Action, silence: Any, changed: list[str]) -> EventData:
    """Return the event of a change of a silence."""
    names = ("silence_id", "kind", "alert_id", "starts_at", "ends_at", "reason")
    fields = {name: getattr(silence, name) for name in names}
    if action == "changed":
        return SilenceUpdated(**fields, changed=changed)
    return (SilenceCreated if action == "created" else SilenceDeleted)(**fields)
