"""Lines in the timelines of many alerts at once."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from django.db import connection

from alerts.models import EventKind

_TELL: Final = """
INSERT INTO alerts_alertevent (alert_id, at, kind, by, note, details)
SELECT line.alert, %s, %s, %s, line.note, '{}' FROM unnest(%s::bigint[], %s::text[]) line (alert, note)
ORDER BY line.alert
"""


def tell(notes: Mapping[int, str], kind: EventKind, by: str, now: datetime) -> None:
    """One line for each alert (by primary key), in their order, since each of them is locked for a moment."""
    if notes:
        with connection.cursor() as cursor:
            cursor.execute(_TELL, [now, kind, by, list(notes), list(notes.values())])
