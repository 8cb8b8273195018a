"""Make the site what a file says: all of it, or nothing."""

from collections.abc import Mapping

from django.db import connection, transaction

from alerts.rules.as_code.plan import BY, Change, Plan, Verb, make_plan
from alerts.rules.as_code.sections import SECTIONS
from alerts.rules.as_code.yaml_reader import read
from metrics.audit.actor import acting_as
from rest.caller import Caller


def apply(data: bytes, environment: Mapping[str, str], *, prune: bool = False, dry_run: bool = False) -> Plan:
    """Apply a file, or only say what would change. With `prune`, rows of a section that stands in the file and that
    it does not name are deleted. Raises BadFile with everything that is wrong.
    """
    text = read(data)
    with acting_as(Caller.internal(BY)), transaction.atomic():
        if dry_run:
            return make_plan(text, environment, prune)
        with connection.cursor() as cursor:  # names of rules are not unique: of two files at once, one waits
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('alerts.as_code', 0))")
        plan = make_plan(text, environment, prune)
        _lock(plan)
        for change in plan.changes:
            _write(change)
    return plan


def _lock(plan: Plan) -> None:
    """What is to be changed, in the order in which everybody locks rows, before the first write takes others."""
    for section in SECTIONS:
        kept = [change.row.pk for change in plan.changes if change.section is section and change.verb != Verb.CREATE]
        list(section.model.objects.filter(pk__in=kept).order_by("pk").select_for_update(of=("self",)).values("pk"))


def _write(change: Change) -> None:
    if change.verb == Verb.CREATE:
        change.section.create(change.row, BY)
    elif change.verb == Verb.CHANGE:
        change.section.change(change.row, change.fields, BY)
    else:
        change.section.delete(change.row, BY)
