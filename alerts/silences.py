"""Create, change and end silences, find the alerts they cover, and preview their effect."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models.expressions import RawSQL
from django.utils import timezone

from alerts import recurring_windows
from alerts.models import Alert, Level, Silence, SilenceKind
from alerts.models.alerts import AlertQuerySet
from alerts.visibility import check_may_change_silence, is_silence_within, visible_group_names, visible_silences
from metrics.devices.group_membership import in_groups_sql
from metrics.models import NAME_LENGTH
from rest.caller import Caller, Scope
from rest.errors import InvalidFields, NotFound

MATCHER_FIELDS = ("device_ids", "device_groups", "metric_names", "rule_ids", "levels")
SILENCE_FIELDS = ("kind", *MATCHER_FIELDS, "alert_id", "starts_at", "ends_at", "weekly", "reason")
MAX_DURATION = timedelta(days=366)
MAX_DEVICE_MAINTENANCE = timedelta(hours=4)  # maintenance window that a device creates for itself
MAX_NAMES = 1000
MAX_REASON_LENGTH = 1000

# Condition for silence `s` to cover alert `a` of rule `r`: every non-empty list matches.
COVERS_SQL = f"""
    (s.alert_id = '' OR a.alert_id = s.alert_id)
    AND (s.levels = '{{}}' OR a.level = ANY(s.levels))
    AND (s.metric_names = '{{}}' OR a.metric_name = ANY(s.metric_names))
    AND (s.rule_ids = '{{}}' OR r.rule_id = ANY(s.rule_ids))
    AND (s.device_ids = '{{}}' OR a.device_name = ANY(s.device_ids))
    AND (s.device_groups = '{{}}' OR {in_groups_sql("a.device_id", "s.device_groups")})
"""
_COVERED_SQL = f"""
SELECT DISTINCT ON (a.id) a.id, s.silence_id, s.reason
FROM alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id JOIN alerts_silence s ON {COVERS_SQL}
WHERE a.id = ANY(%s) AND s.id = ANY(%s) ORDER BY a.id, s.ends_at DESC
"""  # noqa: S608 - a constant
_WOULD_COVER_SQL = f"""
SELECT a.id FROM alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id CROSS JOIN (
    SELECT %s::text[] device_ids, %s::text[] device_groups, %s::text[] metric_names, %s::text[] rule_ids,
        %s::text[] levels, %s::text alert_id) s
WHERE a.raised_at >= %s AND {COVERS_SQL} AND EXISTS (
    SELECT FROM unnest(%s::timestamptz[], %s::timestamptz[]) w (first, last)
    WHERE a.raised_at >= w.first AND a.raised_at < w.last)
"""  # noqa: S608 - a constant


def list_active(now: datetime) -> list[Silence]:
    """Return the silences that are active at this time."""
    current = Silence.objects.filter(starts_at__lte=now, ends_at__gt=now)
    return [silence for silence in current if recurring_windows.is_active(silence.weekly, now)]


def find_covering(alerts: Iterable[int], now: datetime) -> dict[int, str]:
    """Return "silence ID: reason" of each alert (by primary key) that a silence covers at this time."""
    active = [silence.pk for silence in list_active(now)]
    if not active:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_COVERED_SQL, [list(alerts), active])
        return {pk: f"{silence_id}: {reason}"[:MAX_REASON_LENGTH] for pk, silence_id, reason in cursor.fetchall()}


def validate(fields: Mapping[str, Any], now: datetime | None = None) -> None:
    """Validate the fields of a silence. Raises InvalidFields with all errors.

    A recurring window must be active at some time of the silence, and not before `now`.
    """
    errors = [(name, detail) for name in MATCHER_FIELDS if (detail := _find_name_error(fields.get(name, [])))]
    if not any(name == "levels" for name, _ in errors) and not set(fields.get("levels", [])) <= set(Level.values):
        errors.append(("levels", f"must be a list of {', '.join(Level.values)}"))
    if fields.get("kind", SilenceKind.SILENCE) not in SilenceKind.values:
        errors.append(("kind", f"must be {' or '.join(SilenceKind.values)}"))
    if not any(fields.get(name) for name in (*MATCHER_FIELDS, "alert_id")):
        errors.append(("device_ids", f"at least one of {', '.join(MATCHER_FIELDS)}, alert_id is required"))
    if not str(fields.get("reason") or "").strip() or len(fields["reason"]) > MAX_REASON_LENGTH:
        errors.append(("reason", f"must be 1 to {MAX_REASON_LENGTH} characters"))
    starts_at, ends_at = fields.get("starts_at"), fields.get("ends_at")
    if ends_at is None:
        errors.append(("ends_at", "is required: a silence must end"))
    elif starts_at is not None and not starts_at < ends_at <= starts_at + MAX_DURATION:
        errors.append(("ends_at", f"must be after starts_at, by at most {MAX_DURATION.days} days"))
    if detail := recurring_windows.validate(fields.get("weekly")):
        errors.append(("weekly", detail))
    elif not errors and not _applies(fields, now):
        errors.append(("weekly", "has no window between starts_at and ends_at, so the silence would never apply"))
    if errors:
        raise InvalidFields(errors)


def _applies(fields: Mapping[str, Any], now: datetime | None) -> bool:
    """Return whether a silence with a recurring window is active at any time."""
    weekly, starts_at, ends_at = fields.get("weekly"), fields.get("starts_at") or now, fields["ends_at"]
    if weekly is None or starts_at is None:
        return True
    since = starts_at if now is None else max(starts_at, now)
    return any(begin < ends_at for begin, _ in recurring_windows.list_occurrences(weekly, since, ends_at))


def _find_name_error(names: Any) -> str | None:
    is_list = isinstance(names, list)
    if not is_list or any(not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH for name in names):
        return f"must be a list of names of 1 to {NAME_LENGTH} characters"
    return f"must have at most {MAX_NAMES} names" if len(names) > MAX_NAMES else None


def create_silence(fields: Mapping[str, Any], caller: Caller, now: datetime | None = None) -> Silence:
    """Create a silence that starts at `starts_at`, by default now. Raises InvalidFields."""
    now = now or timezone.now()
    values = {name: fields[name] for name in SILENCE_FIELDS if name in fields}
    values["starts_at"] = values.get("starts_at") or now
    validate(values, now)
    if values["ends_at"] <= now:
        raise InvalidFields([("ends_at", "must be in the future")])
    _check_device_scope(values, caller)
    return Silence.objects.create(**values, created_by=caller.name)


@transaction.atomic
def change_silence(silence: Silence, fields: Mapping[str, Any], caller: Caller) -> Silence:
    """Update some fields of a silence. Raises InvalidFields, and Forbidden if it also concerns other devices."""
    silence = Silence.objects.select_for_update().get(pk=silence.pk)
    check_may_change_silence(silence, caller)
    values = {name: fields.get(name, getattr(silence, name)) for name in SILENCE_FIELDS}
    validate(values)
    _check_device_scope(values, caller)
    for name, value in values.items():
        setattr(silence, name, value)
    silence.save()
    return silence


def create_device_maintenance(caller: Caller, ends_at: datetime, reason: str, now: datetime | None = None) -> Silence:
    """Create a maintenance window of a device on its own request, limited to 4 hours. Raises InvalidFields."""
    now = now or timezone.now()
    assert caller.device_id is not None
    if ends_at > now + MAX_DEVICE_MAINTENANCE:
        hours = MAX_DEVICE_MAINTENANCE // timedelta(hours=1)
        raise InvalidFields([("ends_at", f"must be at most {hours} hours from now for a device's own maintenance")])
    fields = {"kind": SilenceKind.MAINTENANCE, "device_ids": [caller.device_id], "ends_at": ends_at, "reason": reason}
    return create_silence(fields, caller, now)


def end_silence(silence: Silence, caller: Caller, now: datetime | None = None) -> Silence:
    """End a silence now; a silence that has not started ends without having been active.

    Raises NotFound if the caller may not see or end it, and Forbidden if it also concerns other devices.
    """
    now = now or timezone.now()
    is_own = silence.kind == SilenceKind.MAINTENANCE and silence.device_ids == [caller.device_id]
    if not (caller.may(Scope.OPERATE) and visible_silences(caller).filter(pk=silence.pk).exists()) and not is_own:
        raise NotFound(f"there is no silence {silence.silence_id}")
    check_may_change_silence(silence, caller)
    if silence.ends_at > now:
        silence.starts_at, silence.ends_at = min(silence.starts_at, now), now
        silence.save()
    return silence


def preview_alerts(
    fields: Mapping[str, Any], caller: Caller, since: datetime, now: datetime | None = None
) -> AlertQuerySet:
    """Return the past alerts that a silence with these fields would have covered, of those that the caller may see.

    Groups that the caller does not see match nothing. The silence is assumed to be active since then, within its
    recurring windows. Raises InvalidFields.
    """
    now = now or timezone.now()
    a_week = timedelta(days=8)  # contains every day of a recurring window
    validate({"starts_at": now, "ends_at": now + a_week, "reason": "preview"} | dict(fields))
    groups = fields.get("device_groups") or []
    visible_groups = visible_group_names(groups, caller)
    if groups and not visible_groups:
        return Alert.objects.none()
    lists = [list(fields.get(name) or []) for name in MATCHER_FIELDS]
    lists[MATCHER_FIELDS.index("device_groups")] = visible_groups
    periods = (
        list(recurring_windows.list_occurrences(fields["weekly"], since, now))
        if fields.get("weekly")
        else [(since, now + MAX_DEVICE_MAINTENANCE)]
    )
    begins, ends = [begin for begin, _ in periods], [end for _, end in periods]
    parameters = [*lists, fields.get("alert_id") or "", since, begins, ends]
    covered = RawSQL(_WOULD_COVER_SQL, parameters)  # noqa: S611 - bound parameters
    return Alert.objects.visible_to(caller).without_shadows().filter(retroactive=False, pk__in=covered)


def _check_device_scope(fields: Mapping[str, Any], caller: Caller) -> None:
    """Check that a caller restricted to some devices silences only these. Raises InvalidFields."""
    device_ids, groups, alert_id = (fields.get(name) for name in ("device_ids", "device_groups", "alert_id"))
    if not is_silence_within(caller, device_ids or [], groups or [], alert_id or ""):
        field = "device_ids" if device_ids else "device_groups"
        raise InvalidFields([(field, "must name devices or device groups that you may see")])
