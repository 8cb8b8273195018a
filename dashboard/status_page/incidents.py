"""Write incidents and planned maintenance with their updates. Each update is sent to subscribers once."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from dashboard.status_page.answers import clear_after_commit
from dashboard.status_page.deliveries import enqueue
from dashboard.status_page.history import forget_history
from dashboard.status_page.lifecycle import Errors, find_text_errors, stripped
from dashboard.status_page.models import (
    ENDED,
    MAX_TEXT_LENGTH,
    STATUSES,
    Impact,
    IncidentKind,
    IncidentStatus,
    IncidentTemplate,
    StatusComponent,
    StatusIncident,
    StatusPage,
    StatusUpdate,
)
from metrics.models import NAME_LENGTH
from rest.caller import Caller
from rest.errors import InvalidFields

INCIDENT_FIELDS = ("title", "impact", "starts_at", "ends_at")
MAX_DURATION = timedelta(days=366)  # of a maintenance
SYSTEM = "status page"  # author of the updates at the start and the end of a maintenance
STARTED, FINISHED = "The maintenance has started.", "The maintenance is completed."


@transaction.atomic
def create_incident(
    page: StatusPage, kind: IncidentKind, fields: Mapping[str, Any], caller: Caller, now: datetime | None = None
) -> StatusIncident:
    """Create an incident or a maintenance with its first update, from `status`, `text` and `components`.

    Raises InvalidFields.
    """
    now = now or timezone.now()
    incident = StatusIncident(page=page, kind=kind, created_by=caller.name)
    _set_fields(incident, fields)
    incident.starts_at = fields.get("starts_at") or now
    if kind == IncidentKind.MAINTENANCE:
        incident.impact = Impact.MAINTENANCE
        has_started = incident.starts_at <= now
        incident.status = IncidentStatus.IN_PROGRESS if has_started else IncidentStatus.SCHEDULED
        if incident.ends_at is not None and incident.ends_at <= now:
            incident.status = IncidentStatus.COMPLETED
    else:
        incident.status = fields.get("status") or IncidentStatus.INVESTIGATING
    text, components = fields.get("text") or "", _checked_components(page, fields.get("components"))
    _check(incident, text)
    incident.closed_at = _closed_at(incident, None, now)
    incident.save()
    incident.components.set(components)
    _write_update(incident, text, caller.name, now)
    _forget_measured(incident, now)
    return incident


@transaction.atomic
def change_incident(incident: StatusIncident, fields: Mapping[str, Any], now: datetime | None = None) -> StatusIncident:
    """Change the title, impact, times and components; nothing is sent. Raises InvalidFields."""
    now = now or timezone.now()
    incident = StatusIncident.objects.select_for_update().get(pk=incident.pk)
    _forget_measured(incident, now)
    _set_fields(incident, fields)
    _check(incident, "")
    incident.save()
    if "components" in fields:
        incident.components.set(_checked_components(incident.page, fields["components"]))
    _forget_measured(incident, now)
    clear_after_commit()
    return incident


@transaction.atomic
def add_update(
    incident: StatusIncident, status: str, text: str, caller: Caller, now: datetime | None = None
) -> StatusUpdate:
    """Add an update with a new or the same status, which subscribers are sent. Raises InvalidFields."""
    now = now or timezone.now()
    incident = StatusIncident.objects.select_for_update().get(pk=incident.pk)
    was = incident.status
    incident.status = status
    _check(incident, text)
    if not text.strip() and status == was:
        raise InvalidFields([("text", "is required if the status stays the same")])
    incident.closed_at = _closed_at(incident, incident.closed_at, now)
    incident.save()
    update = _write_update(incident, text, caller.name, now)
    _forget_measured(incident, now)
    return update


def delete_incident(incident: StatusIncident) -> None:
    """Delete an incident or a maintenance with its updates; unsent notifications are not sent."""
    with transaction.atomic():
        _forget_measured(incident, timezone.now())
        incident.delete()
        clear_after_commit()


def run_maintenances(now: datetime) -> int:
    """Start and complete the maintenance that is due, each with an update; return how many changed."""
    changed = 0
    planned = StatusIncident.objects.filter(kind=IncidentKind.MAINTENANCE).exclude(status__in=ENDED)
    due = planned.filter(status=IncidentStatus.SCHEDULED, starts_at__lte=now) | planned.filter(ends_at__lte=now)
    for pk in due.values_list("pk", flat=True):
        with transaction.atomic():
            maintenance = planned.select_for_update(skip_locked=True).filter(pk=pk).first()
            if maintenance is None:
                continue
            if maintenance.status == IncidentStatus.SCHEDULED and maintenance.starts_at <= now:
                maintenance.status = IncidentStatus.IN_PROGRESS
                _write_update(maintenance, STARTED, SYSTEM, now)
                changed += 1
            if maintenance.ends_at is not None and maintenance.ends_at <= now:
                maintenance.status = IncidentStatus.COMPLETED
                maintenance.closed_at = maintenance.ends_at
                _write_update(maintenance, FINISHED, SYSTEM, now)
                changed += 1
            maintenance.save()
    return changed


@transaction.atomic
def save_template(template: IncidentTemplate, fields: Mapping[str, Any]) -> IncidentTemplate:
    """Store the fields of a template. Raises InvalidFields."""
    for name in ("name", "kind", "title", "status", "impact", "text"):
        if name in fields:
            setattr(template, name, stripped(fields[name]))
    check_template(template)
    template.save()
    return template


def check_template(template: IncidentTemplate) -> None:
    """Validate a template. Raises InvalidFields with all errors."""
    texts = (("name", template.name, NAME_LENGTH, True), ("title", template.title, NAME_LENGTH, True))
    errors = find_text_errors(*texts, ("text", template.text, MAX_TEXT_LENGTH, False))
    errors += _find_choice_errors(template.kind, template.status, template.impact)
    same = IncidentTemplate.objects.filter(page=template.page_id, name=template.name).exclude(pk=template.pk)
    if same.exists():
        errors.append(("name", "is taken"))
    if errors:
        raise InvalidFields(errors)


def _set_fields(incident: StatusIncident, fields: Mapping[str, Any]) -> None:
    for name in INCIDENT_FIELDS:
        if fields.get(name) is not None:
            setattr(incident, name, stripped(fields[name]))


def _check(incident: StatusIncident, text: str) -> None:
    errors = find_text_errors(("title", incident.title, NAME_LENGTH, True), ("text", text, MAX_TEXT_LENGTH, False))
    errors += _find_choice_errors(incident.kind, incident.status, incident.impact)
    if incident.kind == IncidentKind.MAINTENANCE:
        if incident.ends_at is None:
            errors.append(("ends_at", "is required: a maintenance must end"))
        elif not incident.starts_at < incident.ends_at <= incident.starts_at + MAX_DURATION:
            errors.append(("ends_at", f"must be after starts_at, by at most {MAX_DURATION.days} days"))
    if errors:
        raise InvalidFields(errors)


def _find_choice_errors(kind: str, status: str, impact: str) -> Errors:
    errors: Errors = []
    if kind not in STATUSES:
        return [("kind", f"must be {' or '.join(IncidentKind.values)}")]
    if status not in STATUSES[kind]:
        errors.append(("status", f"must be one of {', '.join(STATUSES[kind])}"))
    impacts = [impact for impact in Impact.values if (impact == Impact.MAINTENANCE) == (kind == "maintenance")]
    if impact not in impacts:
        errors.append(("impact", f"must be one of {', '.join(impacts)}"))
    return errors


def _checked_components(page: StatusPage, components: Iterable[StatusComponent] | None) -> list[StatusComponent]:
    chosen = list(components or ())
    if any(component.page_id != page.pk for component in chosen):
        raise InvalidFields([("component_ids", "must be components of this page")])
    return chosen


def _closed_at(incident: StatusIncident, closed_at: datetime | None, now: datetime) -> datetime | None:
    if incident.status not in ENDED:
        return None
    if closed_at is not None:
        return closed_at
    is_past = incident.kind == IncidentKind.MAINTENANCE and incident.ends_at is not None and incident.ends_at <= now
    return incident.ends_at if is_past else now


def _write_update(incident: StatusIncident, text: str, by: str, now: datetime) -> StatusUpdate:
    update = StatusUpdate.objects.create(
        incident=incident, status=incident.status, text=text.strip(), at=now, created_by=by
    )
    enqueue(update)
    clear_after_commit()
    return update


def _forget_measured(incident: StatusIncident, now: datetime) -> None:
    """Have the past days computed again if a maintenance covers some of them."""
    if incident.kind == IncidentKind.MAINTENANCE and incident.starts_at < now - timedelta(hours=1):
        forget_history(incident.page)
