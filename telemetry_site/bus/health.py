"""Health of the event bus: backlog and errors of each target, and the transaction that holds the outbox back."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from metrics.storage.connection import Connection, database_time
from telemetry_site.bus.backlog import Backlog, HeldBack, find_held_back, read_backlog
from telemetry_site.bus.nats_server import ALWAYS
from telemetry_site.bus.targets.configured import configured_targets

MAX_DELAY = 60.0  # seconds that the oldest event may wait for a target
MAX_SILENCE = 60.0  # seconds since the last report of a relay; relays report every 5 s
MAX_PARKED = 10_000  # that are counted

_TARGETS = """
SELECT name, extract(epoch FROM reported_at)::float8, delivered, extract(epoch FROM failing_since)::float8, last_error,
    sync_interval
FROM bus_bustarget WHERE name = ANY(%s)
"""
_PARKED = "SELECT count(*) FROM (SELECT 1 FROM bus_parkedmessage LIMIT %s) parked"


class TargetHealth(NamedTuple):
    """State of a target; times are seconds since 1970."""

    name: str
    backlog: Backlog
    now: float
    reported_at: float | None = None  # None: no relay has run yet
    delivered: int = 0
    failing_since: float | None = None
    last_error: str = ""
    sync_interval: str = ""

    @property
    def problem(self) -> str:
        """Why the target is not healthy; empty if it is."""
        if self.reported_at is None:
            return f"{self.name}: no relay has run yet"
        if self.now - self.reported_at > MAX_SILENCE:
            return f"{self.name}: no relay has reported for {self.now - self.reported_at:.0f} seconds"
        if self.failing_since is not None:
            return f"{self.name}: failing for {self.now - self.failing_since:.0f} seconds: {self.last_error}"
        if self.backlog.seconds > MAX_DELAY:
            return f"{self.name}: the oldest event has waited {self.backlog.seconds:.0f} seconds"
        return ""

    @property
    def warning(self) -> str:
        """Advice for an operator although the target works; empty without any."""
        if not self.sync_interval or self.sync_interval == ALWAYS:
            return ""
        return (
            f"{self.name}: sync_interval of the server is {self.sync_interval}, so a crash can lose what it has"
            " acknowledged; set it to always, or run `manage.py run_bus --replay 10m` after a crash"
        )

    def figures(self) -> dict[str, Any]:
        """Return the figures for the API."""
        return {
            "name": self.name,
            "events_waiting": self.backlog.events,
            "oldest_event_seconds": round(self.backlog.seconds, 3),
            "delivered": self.delivered,
            "failing_since": None if self.failing_since is None else datetime.fromtimestamp(self.failing_since, UTC),
            "last_error": self.last_error,
            "sync_interval": self.sync_interval or None,
            "reported_seconds_ago": None if self.reported_at is None else round(self.now - self.reported_at, 3),
        }


class BusHealth(NamedTuple):
    """State of all configured targets and of the outbox."""

    targets: list[TargetHealth]
    held_back: HeldBack | None
    parked: int
    now: float

    @property
    def is_shown(self) -> bool:
        """Whether there is anything to report: a bus, or a transaction that would hold it back."""
        return bool(self.targets) or self.held_back is not None

    @property
    def problems(self) -> list[str]:
        """Everything that is not healthy."""
        held_back = [] if self.held_back is None else [str(self.held_back)]
        return held_back + [target.problem for target in self.targets if target.problem]

    def figures(self) -> dict[str, Any]:
        """Return the figures for the API."""
        held_back = self.held_back
        return {
            "targets": [target.figures() for target in self.targets],
            "outbox_held_back_seconds": 0.0 if held_back is None else round(self.now - held_back.since.timestamp(), 3),
            "outbox_held_back_by": None if held_back is None else str(held_back),
            "parked_messages": self.parked,
        }


def read_bus_health(connection: Connection) -> BusHealth:
    """Return the health of the bus of this installation."""
    names = [target.name for target in configured_targets()]
    rows: dict[str, Any] = {name: rest for name, *rest in connection.execute(_TARGETS, (names,)).fetchall()}
    now = database_time(connection)
    targets = [TargetHealth(name, read_backlog(connection, name), now, *rows.get(name, ())) for name in names]
    row = connection.execute(_PARKED, (MAX_PARKED,)).fetchone()
    assert row is not None
    return BusHealth(targets, find_held_back(connection), row[0], now)
