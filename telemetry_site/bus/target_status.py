"""Reports of relays about their targets, for health, doctor and operators."""

from typing import NamedTuple

from metrics.storage.connection import Connection
from telemetry_site.bus.models import MAX_REASON_LENGTH

_REPORT = """
INSERT INTO bus_bustarget
    (name, reported_at, delivered, delivered_at, failing_since, last_error, sync_interval, is_replay)
VALUES (%(name)s, now(), %(delivered)s, CASE WHEN %(delivered)s > 0 THEN now() END,
    CASE WHEN %(failing)s THEN now() END, %(error)s, %(sync_interval)s, false)
ON CONFLICT (name) DO UPDATE SET reported_at = now(), delivered = bus_bustarget.delivered + %(delivered)s,
    delivered_at = CASE WHEN %(delivered)s > 0 THEN now() ELSE bus_bustarget.delivered_at END,
    failing_since = CASE WHEN %(failing)s THEN coalesce(bus_bustarget.failing_since, now()) END,
    is_replay = bus_bustarget.is_replay AND %(delivered)s = 0,
    last_error = CASE WHEN %(failing)s THEN %(error)s ELSE bus_bustarget.last_error END,
    sync_interval = coalesce(nullif(%(sync_interval)s, ''), bus_bustarget.sync_interval)
"""
_PAST = """
SELECT is_replay, extract(epoch FROM now() - delivered_at)::float8 FROM bus_bustarget WHERE name = %s
"""
_MARK_REPLAY = """
INSERT INTO bus_bustarget (name, reported_at, delivered, last_error, sync_interval, is_replay)
VALUES (%s, now(), 0, '', '', true) ON CONFLICT (name) DO UPDATE SET is_replay = true
"""


class PastDelivery(NamedTuple):
    """Whether the next events are a replay, and seconds since the last delivery."""

    is_replay: bool
    seconds: float


def read_past_delivery(connection: Connection, name: str) -> PastDelivery:
    """Return what is stored of a target's past deliveries."""
    row = connection.execute(_PAST, (name,)).fetchone()
    return PastDelivery(False, float("inf")) if row is None else PastDelivery(row[0], row[1] or float("inf"))


def mark_replay(connection: Connection, name: str) -> None:
    """Store that the next events of a target are a replay."""
    connection.execute(_MARK_REPLAY, (name,))


def report(connection: Connection, name: str, delivered: int = 0, error: str = "", sync_interval: str = "") -> None:
    """Store that a relay is running, how many more events it delivered, and its error if it fails."""
    values = {
        "name": name,
        "delivered": delivered,
        "failing": bool(error),
        "error": error[:MAX_REASON_LENGTH],
        "sync_interval": sync_interval,
    }
    connection.execute(_REPORT, values)
