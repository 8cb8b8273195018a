"""Silences: what they cover, opened and ended, and what one of them would have hidden."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone

from alerts import recurring_windows
from alerts.models import Alert, Level, Silence, SilenceKind
from alerts.models.alerts import AlertQuerySet
from metrics.models import NAME_LENGTH, Device
from rest.caller import Caller, Scope
from rest.errors import InvalidFields, NotFound

LISTS: Final = ("device_ids", "device_groups", "metric_names", "rule_ids", "levels")
FIELDS: Final = ("kind", *LISTS, "alert_id", "starts_at", "ends_at", "weekly", "reason")
LONGEST: Final = timedelta(days=366)
LONGEST_OWN: Final = timedelta(hours=4)  # maintenance that a device opens for itself
MOST_NAMES: Final = 1000
LONGEST_REASON: Final = 1000

# Whether silence `s` covers alert `a` of rule `r`: it is in every list that is not empty.
COVERS: Final = """
    (s.alert_id = '' OR a.alert_id = s.alert_id)
    AND (s.levels = '{}' OR a.level = ANY(s.levels))
    AND (s.metric_names = '{}' OR a.metric_name = ANY(s.metric_names))
    AND (s.rule_ids = '{}' OR r.rule_id = ANY(s.rule_ids))
    AND (s.device_ids = '{}' OR a.device_name = ANY(s.device_ids))
    AND (s.device_groups = '{}' OR EXISTS (
        SELECT FROM metrics_device_groups m JOIN metrics_devicegroup g ON g.id = m.devicegroup_id
        WHERE m.device_id = a.device_id AND g.name = ANY(s.device_groups)))
"""
_COVERED = f"""
SELECT DISTINCT ON (a.id) a.id, s.silence_id, s.reason
FROM alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id JOIN alerts_silence s ON {COVERS}
WHERE a.id = ANY(%s) AND s.id = ANY(%s) ORDER BY a.id, s.ends_at DESC
"""  # noqa: S608 - a constant
_WOULD_COVER = f"""
SELECT a.id FROM alerts_alert a LEFT JOIN alerts_rule r ON r.id = a.rule_id CROSS JOIN (
    SELECT %s::text[] device_ids, %s::text[] device_groups, %s::text[] metric_names, %s::text[] rule_ids,
        %s::text[] levels, %s::text alert_id) s
WHERE a.raised_at >= %s AND {COVERS} AND EXISTS (
    SELECT FROM unnest(%s::timestamptz[], %s::timestamptz[]) w (first, last)
    WHERE a.raised_at >= w.first AND a.raised_at < w.last)
"""  # noqa: S608 - a constant


def active(now: datetime) -> list[Silence]:
    """The silences that are in force at this moment."""
    within = Silence.objects.filter(starts_at__lte=now, ends_at__gt=now)
    return [silence for silence in within if recurring_windows.holds(silence.weekly, now)]


def covering(alerts: Iterable[int], now: datetime) -> dict[int, str]:
    """Why alerts (by primary key) are kept quiet at this moment, for those that are: which silence, and its reason."""
    silences = [silence.pk for silence in active(now)]
    if not silences:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_COVERED, [list(alerts), silences])
        return {pk: f"{silence_id}: {reason}"[:LONGEST_REASON] for pk, silence_id, reason in cursor.fetchall()}


def check(fields: Mapping[str, Any]) -> None:
    """Raises InvalidFields with everything that is wrong with the fields of a silence."""
    errors = [(name, detail) for name in LISTS if (detail := _wrong_names(fields.get(name, [])))]
    if not any(name == "levels" for name, _ in errors) and not set(fields.get("levels", [])) <= set(Level.values):
        errors.append(("levels", f"{', '.join(Level.values)} are accepted"))
    if fields.get("kind", SilenceKind.SILENCE) not in SilenceKind.values:
        errors.append(("kind", f"{' or '.join(SilenceKind.values)} is accepted"))
    if not any(fields.get(name) for name in (*LISTS, "alert_id")):
        errors.append(("device_ids", f"everything would be silent: name some {', '.join(LISTS)} or an alert_id"))
    if not str(fields.get("reason") or "").strip() or len(fields["reason"]) > LONGEST_REASON:
        errors.append(("reason", f"a reason of 1 to {LONGEST_REASON} characters is asked for"))
    starts_at, ends_at = fields.get("starts_at"), fields.get("ends_at")
    if ends_at is None:
        errors.append(("ends_at", "no silence is for ever: say when it ends"))
    elif starts_at is not None and not starts_at < ends_at <= starts_at + LONGEST:
        errors.append(("ends_at", f"a time after starts_at is accepted, at most {LONGEST.days} days after it"))
    if detail := recurring_windows.check(fields.get("weekly")):
        errors.append(("weekly", detail))
    if errors:
        raise InvalidFields(errors)


def _wrong_names(names: Any) -> str | None:
    if not isinstance(names, list) or any(not isinstance(one, str) or not 0 < len(one) <= NAME_LENGTH for one in names):
        return f"a list of names of 1 to {NAME_LENGTH} characters is accepted"
    return f"at most {MOST_NAMES} names are accepted" if len(names) > MOST_NAMES else None


def open_silence(fields: Mapping[str, Any], caller: Caller, now: datetime | None = None) -> Silence:
    """Keep quiet what these fields say, from `starts_at` (now) on. Raises InvalidFields."""
    now = now or timezone.now()
    given = {name: fields[name] for name in FIELDS if name in fields}
    given["starts_at"] = given.get("starts_at") or now
    check(given)
    if given["ends_at"] <= now:
        raise InvalidFields([("ends_at", "it is over already: a time to come is accepted")])
    _within_sight(given, caller)
    return Silence.objects.create(**given, created_by=caller.name)


@transaction.atomic
def change_silence(silence: Silence, fields: Mapping[str, Any], caller: Caller) -> Silence:
    """Set some fields of a silence. Raises InvalidFields."""
    silence = Silence.objects.select_for_update().get(pk=silence.pk)
    whole = {name: fields.get(name, getattr(silence, name)) for name in FIELDS}
    check(whole)
    _within_sight(whole, caller)
    for name, value in whole.items():
        setattr(silence, name, value)
    silence.save()
    return silence


def open_own_maintenance(caller: Caller, ends_at: datetime, reason: str, now: datetime | None = None) -> Silence:
    """A device is quiet on its own request, for some hours at most. Raises InvalidFields."""
    now = now or timezone.now()
    assert caller.device_id is not None
    if ends_at > now + LONGEST_OWN:
        hours = LONGEST_OWN // timedelta(hours=1)
        raise InvalidFields([("ends_at", f"a device opens maintenance for itself of at most {hours} hours")])
    fields = {"kind": SilenceKind.MAINTENANCE, "device_ids": [caller.device_id], "ends_at": ends_at, "reason": reason}
    return open_silence(fields, caller, now)


def end_silence(silence: Silence, caller: Caller, now: datetime | None = None) -> Silence:
    """End a silence now, or cancel one that has not started. Raises NotFound if the caller may not end it."""
    now = now or timezone.now()
    own = silence.kind == SilenceKind.MAINTENANCE and silence.device_ids == [caller.device_id]
    if not (caller.may(Scope.OPERATE) and visible(caller).filter(pk=silence.pk).exists()) and not own:
        raise NotFound(f"there is no silence {silence.silence_id}")
    if silence.ends_at > now:
        silence.starts_at, silence.ends_at = min(silence.starts_at, now), now
        silence.save()
    return silence


def visible(caller: Caller) -> QuerySet[Silence]:
    """The silences that concern what a caller sees; those without devices concern everybody."""
    if caller.device_id is not None:
        return Silence.objects.filter(device_ids__contains=[caller.device_id])
    if caller.groups is None:
        return Silence.objects.all()
    seen = list(Device.objects.visible_to(caller).values_list("device_id", flat=True))
    alerts = Alert.objects.visible_to(caller).values("alert_id")
    nowhere = Q(device_ids=[], device_groups=[], alert_id="")
    return Silence.objects.filter(
        Q(device_ids__overlap=seen) | Q(device_groups__overlap=list(caller.groups)) | Q(alert_id__in=alerts) | nowhere
    )


def expiring(within: timedelta, now: datetime) -> QuerySet[Silence]:
    """The silences that end within this time."""
    return Silence.objects.filter(starts_at__lte=now, ends_at__gt=now, ends_at__lte=now + within)


def preview(fields: Mapping[str, Any], caller: Caller, since: datetime, now: datetime | None = None) -> AlertQuerySet:
    """The alerts since then of which a silence of these fields would have told nobody, of those that a caller sees.

    As if it had been in force all that time, at its times of the week. To be counted and paged. Raises InvalidFields.
    """
    now = now or timezone.now()
    check({"starts_at": now, "ends_at": now + LONGEST_OWN, "reason": "preview"} | dict(fields))
    lists = [list(fields.get(name) or []) for name in LISTS]
    times = (
        list(recurring_windows.windows(fields["weekly"], since, now))
        if fields.get("weekly")
        else [(since, now + LONGEST_OWN)]
    )
    begins, ends = [begin for begin, _ in times], [end for _, end in times]
    found = RawSQL(_WOULD_COVER, [*lists, fields.get("alert_id") or "", since, begins, ends])  # noqa: S611 - bound
    return Alert.objects.visible_to(caller).real().filter(retroactive=False, pk__in=found)


def _within_sight(fields: Mapping[str, Any], caller: Caller) -> None:
    """Whoever sees some devices silences those alone."""
    if caller.groups is None and caller.device_id is None:
        return
    names = fields.get("device_ids") or []
    if names and Device.objects.visible_to(caller).filter(device_id__in=names).count() == len(set(names)):
        return
    if caller.groups and fields.get("device_groups") and set(fields["device_groups"]) <= set(caller.groups):
        return
    if fields.get("alert_id") and Alert.objects.visible_to(caller).filter(alert_id=fields["alert_id"]).exists():
        return
    field = "device_ids" if names else "device_groups"
    raise InvalidFields([(field, "name devices or groups that you can see: your access is limited to some devices")])
