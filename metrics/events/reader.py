"""Readers of the outbox that lose no event.

Ids are assigned when a row is written and become visible when its transaction commits, in another order. A reader by
`id > last` therefore loses the rows of a transaction that commits after a later one. Both readers here use the id of
the writing transaction (`xid`): every transaction below `pg_snapshot_xmin` has ended.

Source: https://event-driven.io/en/ordering_in_postgres_outbox/
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from metrics.storage.connection import Connection
from metrics.storage.units import format_time

_COLUMNS = "id, xid::text::bigint, event_id::text, type, subject, device_id, owner_id, time, data"
_XMIN = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_BAND = f"""
SELECT {_COLUMNS} FROM metrics_event
WHERE xid >= %s::text::xid8 AND xid < %s::text::xid8 AND id > %s ORDER BY id LIMIT %s
"""  # noqa: S608 - names of columns
# The first transaction of a band with an event whose predecessor is not in the band.
_FIRST_BEFORE_ITS_CAUSE = """
SELECT later.xid::text::bigint FROM metrics_event later
WHERE later.xid >= %(low)s::text::xid8 AND later.xid < %(high)s::text::xid8 AND EXISTS (
    SELECT FROM metrics_event earlier
    WHERE earlier.xid >= %(high)s::text::xid8 AND earlier.subject = later.subject AND earlier.id < later.id
) ORDER BY later.xid LIMIT 1
"""
# One statement is one snapshot: the next threshold belongs to the rows that are read.
_LIVE = f"""
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, e.* FROM (SELECT 1) one LEFT JOIN LATERAL (
    SELECT {_COLUMNS} FROM metrics_event
    WHERE xid >= %s::text::xid8 AND NOT id = ANY(%s) ORDER BY id LIMIT %s
) e ON true ORDER BY e.id
"""  # noqa: S608 - names of columns


class StoredEvent(NamedTuple):
    """An event of the outbox."""

    id: int
    xid: int
    event_id: str
    type: str
    subject: str
    device_id: str | None
    owner_id: int | None
    time: datetime
    data: Mapping[str, Any]

    def envelope(self) -> dict[str, Any]:
        """Return the event as every transport sends it."""
        return {
            "id": self.event_id,
            "type": self.type,
            "subject": self.subject,
            "time": format_time(self.time),
            "data": self.data,
        }


def oldest_running_transaction(connection: Connection) -> int:
    """Return `pg_snapshot_xmin`: every transaction with a smaller id has ended."""
    row = connection.execute(_XMIN).fetchone()
    assert row is not None
    xmin: int = row[0]
    return xmin


@dataclass(frozen=True, slots=True)
class Band:
    """A position of a BandReader: transactions from `low` to before `high` are read, up to the event `last_id`."""

    low: int
    high: int
    last_id: int = 0


def read_band(connection: Connection, band: Band, limit: int) -> tuple[Band, list[StoredEvent]]:
    """Return at most `limit` events after a position, in order, and the band that they are from.

    All transactions of a band have ended, so the band is complete, and ids order the events of a subject: a transaction
    that waited for the row lock of another one wrote its event later. The caller moves `last_id` as it processes the
    events. When a band has been read to its end, the next one reaches to the oldest running transaction, or to before
    the first event whose predecessor would be in a later band.
    """
    events = _band_rows(connection, band, limit)
    if events:
        return band, events
    following = Band(band.high, _end_of_next_band(connection, band.high))
    return following, _band_rows(connection, following, limit) if following.high > following.low else []


def _end_of_next_band(connection: Connection, low: int) -> int:
    """Return the end of the band that begins at `low`; `low` if nothing can be read yet.

    A transaction can wait for one with a larger id, so the events of both may have their order in ids only. They have
    to be in one band. That is possible as soon as no transaction between them is running.
    """
    high = max(low, oldest_running_transaction(connection))
    while high > low:
        row = connection.execute(_FIRST_BEFORE_ITS_CAUSE, {"low": low, "high": high}).fetchone()
        if row is None:
            break
        high = row[0]
    return high


def _band_rows(connection: Connection, band: Band, limit: int) -> list[StoredEvent]:
    rows = connection.execute(_BAND, (band.low, band.high, band.last_id, limit))
    return [StoredEvent(*row) for row in rows]


@dataclass
class LiveReader:
    """Reads each event once, as soon as it is committed, even while older transactions are running.

    Events of transactions from `threshold` on that were read already are remembered by id, until every transaction of
    that age has ended.
    """

    threshold: int
    _read: dict[int, int] = field(default_factory=dict)  # id → transaction

    @classmethod
    def from_now(cls, connection: Connection) -> "LiveReader":
        """Return a reader of the events that are committed from now on.

        Events that were committed by transactions above the threshold before this call are read too.
        """
        return cls(oldest_running_transaction(connection))

    def read(self, connection: Connection, limit: int = 1000) -> list[StoredEvent]:
        """Return at most `limit` committed events that were not read before, in the order of their ids."""
        rows = connection.execute(_LIVE, (self.threshold, list(self._read), limit)).fetchall()
        events = [StoredEvent(*row[1:]) for row in rows if row[1] is not None]
        self._read |= {event.id: event.xid for event in events}
        if len(events) < limit:  # everything that was visible has been read
            self.threshold = max(self.threshold, rows[0][0])
            self._read = {number: xid for number, xid in self._read.items() if xid >= self.threshold}
        return events
