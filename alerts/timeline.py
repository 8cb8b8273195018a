"""Insert events into the timelines of many alerts at once."""

from collections.abc import Mapping
from datetime import datetime

from django.db import connection, transaction

from alerts.events import record_alert_events
from alerts.models import EventKind

NOTIFICATION_AUTHOR = "notifications"  # `by` of events that alerts.notifications adds

_INSERT_EVENTS = """
INSERT INTO alerts_alertevent (alert_id, at, kind, by, note, details)
SELECT line.alert, %s, %s, %s, line.note, '{}' FROM unnest(%s::bigint[], %s::text[]) line (alert, note)
ORDER BY line.alert
"""


def add_events(notes: Mapping[int, str], kind: EventKind, by: str, now: datetime) -> None:
    """Add one event per alert, also to the outbox; `notes` has the note by primary key.

    The change itself has to be stored before, since the outbox gets the present state of each alert.

    Events are inserted in the order of alerts, since each insert locks its alert.
    """
    if notes:
        with transaction.atomic(savepoint=False):
            with connection.cursor() as cursor:
                cursor.execute(_INSERT_EVENTS, [now, kind, by, list(notes), list(notes.values())])
            record_alert_events(notes, kind, by)
