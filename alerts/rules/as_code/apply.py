"""Apply a file: change rules, channels, routes, silences and collectors to match it, in one transaction."""

from collections.abc import Mapping

from django.db import connection, transaction

from alerts.rules.as_code.plan import APPLY_AUTHOR, ApplyPlan, ChangeKind, PlannedChange, make_plan
from alerts.rules.as_code.sections import SECTIONS
from alerts.rules.as_code.yaml_reader import read_file
from metrics.audit.actor import acting_as
from rest.caller import Caller


def apply(data: bytes, environment: Mapping[str, str], *, prune: bool = False, dry_run: bool = False) -> ApplyPlan:
    """Apply a file, or with `dry_run` only return the plan. Raises InvalidFile with every error.

    With `prune`, objects that the file does not name are deleted, of the sections that are in the file.
    """
    file = read_file(data)
    with acting_as(Caller.internal(APPLY_AUTHOR)), transaction.atomic():
        if dry_run:
            return make_plan(file, environment, prune)
        with connection.cursor() as cursor:  # one file at a time, since names of rules are not unique in the database
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('alerts.as_code', 0))")
        plan = make_plan(file, environment, prune)
        _lock_rows(plan)
        for change in plan.changes:
            _write(change)
    return plan


def _lock_rows(plan: ApplyPlan) -> None:
    """Lock all rows to change before the first write, in the order in which every other writer locks them."""
    for section in SECTIONS:
        changes = [change for change in plan.changes if change.section is section]
        pks = [change.row.pk for change in changes if change.kind != ChangeKind.CREATE]
        list(section.model.objects.filter(pk__in=pks).order_by("pk").select_for_update(of=("self",)).values("pk"))


def _write(change: PlannedChange) -> None:
    if change.kind == ChangeKind.CREATE:
        change.section.create(change.row, APPLY_AUTHOR)
    elif change.kind == ChangeKind.CHANGE:
        change.section.change(change.row, change.fields, APPLY_AUTHOR)
    else:
        change.section.delete(change.row, APPLY_AUTHOR)
