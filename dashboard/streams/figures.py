"""The figures of the channel `dashboard`: computed in one thread, once for all sockets that see the same devices.

Nothing is computed without a subscriber. The figures are computed each PERIOD, and soon after an event of an alert or a
device that the subscriber sees; a round of computations takes at most a share of 1 to COST_FACTOR of the time.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from channels.db import database_sync_to_async

from dashboard.open_alert_counts import MAX_COUNT, OpenAlertCounts
from dashboard.streams import frames
from metrics.devices.device_state import STATE_NAMES, count_states, ranks_of
from metrics.error_responses import EXPECTED_ERRORS
from metrics.query.last_seen import LastSeenColumns, last_seen_since
from metrics.statistics import request_history
from metrics.storage.connection import read_connection
from metrics.storage.units import to_datetime
from rest.caller import Caller

log = logging.getLogger(__name__)

CHANNEL = "dashboard"
PERIOD = 5.0  # seconds between computations without events
EVENT_DELAY = 0.25  # seconds from an event to the computation, so that a burst of events causes one
MIN_PERIOD = 0.75  # seconds between computations with events
COST_FACTOR = 4

_LAST_COMMIT = """
SELECT max(journal.at) FROM metrics_head head
JOIN metrics_journal journal ON journal.shard = head.shard AND journal.seq = head.seq
"""

Sink = Callable[[bytes], None]


class FiguresKey(NamedTuple):
    """Key of the figures of a caller; callers with equal keys get the same frame."""

    device_id: str | None
    groups: tuple[str, ...] | None

    @classmethod
    def of(cls, caller: Caller) -> "FiguresKey":
        return cls(caller.device_id, None if caller.groups is None else tuple(sorted(caller.groups)))

    def caller(self) -> Caller:
        """Return a caller that sees the same devices."""
        return Caller("dashboard figures", "read", self.device_id, self.groups)


class SiteFigures(NamedTuple):
    """Figures that are the same for every caller."""

    last_seen: LastSeenColumns
    points_per_second: float
    last_commit: Any

    @classmethod
    def read(cls, devices_since: float) -> "SiteFigures":
        """Read them; times of devices that were read before `devices_since` (monotonic clock) are read again."""
        with read_connection() as connection:
            rate = request_history.read_recent(connection).points_per_second
            [last_commit] = connection.execute(_LAST_COMMIT).fetchone() or (None,)
        return cls(last_seen_since(devices_since), round(rate, 3), last_commit)


def compute_figures(caller: Caller, site: SiteFigures) -> dict[str, Any]:
    """Return the figures of the devices that a caller sees.

    Open alerts are counted up to `count_limit` of each level and status, which then means "this number or more".
    """
    fleet = site.last_seen.visible_to(caller)
    states = count_states(ranks_of(fleet))
    newest = int(fleet.times.max(initial=0))
    alerts = OpenAlertCounts.visible_to(caller)
    return {
        "devices": {"total": sum(states.values())} | {name: states[state] for state, name in STATE_NAMES.items()},
        "last_seen": to_datetime(newest) if newest else None,
        "alerts": {
            "open": alerts.open.number,
            "unacknowledged": alerts.unacknowledged.number,
            "by_level": {
                count.level: {"open": count.open.number, "unacknowledged": count.unacknowledged.number}
                for count in alerts.by_level
            },
            "count_limit": MAX_COUNT,
        },
        "points_per_second": site.points_per_second,
        "last_commit": site.last_commit,
    }


@dataclass(eq=False)
class _Audience:
    """The sinks of one key and the frame that they received last."""

    sinks: set[Sink] = field(default_factory=set)
    frame: bytes = b""
    due: float = 0.0  # when the figures are computed next, by the clock of the event loop


class FiguresFeed:
    """Computes and sends the figures in the event loop of one process."""

    def __init__(self) -> None:
        self.computations = 0
        self._audiences: dict[FiguresKey, _Audience] = {}
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._devices_since = 0.0
        self._not_before = 0.0
        self._executor = ThreadPoolExecutor(1, "figures")

    def attach(self, key: FiguresKey, sink: Sink) -> None:
        """Send the figures to a sink, the present ones first."""
        audience = self._audiences.setdefault(key, _Audience())
        audience.sinks.add(sink)
        if audience.frame:
            sink(audience.frame)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        self._changed.set()

    def detach(self, key: FiguresKey, sink: Sink) -> None:
        audience = self._audiences.get(key)
        if audience is not None:
            audience.sinks.discard(sink)
            if not audience.sinks:
                del self._audiences[key]
                self._changed.set()

    @property
    def keys(self) -> list[FiguresKey]:
        """The keys with subscribers."""
        return list(self._audiences)

    def note_event(self, key: FiguresKey, *, of_device: bool) -> None:
        """Compute the figures of a key soon, because of an event of an alert or a device."""
        audience = self._audiences.get(key)
        if audience is None:
            return
        if of_device:
            self._devices_since = time.monotonic()
        audience.due = min(audience.due, asyncio.get_running_loop().time() + EVENT_DELAY)
        self._changed.set()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._audiences:
            self._changed.clear()
            wait = max(self._not_before, min(audience.due for audience in self._audiences.values())) - clock()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait)
                continue
            await self._compute_due()

    async def _compute_due(self) -> None:
        """Compute the figures of the keys that are due, and send those that have changed."""
        clock = asyncio.get_running_loop().time
        began = clock()
        due = {key: audience for key, audience in self._audiences.items() if audience.due <= began}
        for audience in due.values():
            audience.due = began + PERIOD
        compute = database_sync_to_async(self._encode, thread_sensitive=False, executor=self._executor)
        try:
            frames = await compute(list(due), self._devices_since)
        except EXPECTED_ERRORS as error:
            log.warning("dashboard figures are delayed, the database is unavailable: %s", str(error).split("\n")[0])
            frames = {}
        except Exception:  # the next computation may succeed
            log.exception("computing the dashboard figures failed")
            frames = {}
        for key, frame in frames.items():
            audience = due[key]
            if frame != audience.frame:
                audience.frame = frame
                for sink in list(audience.sinks):
                    sink(frame)
        self._not_before = clock() + max(MIN_PERIOD - EVENT_DELAY, (COST_FACTOR - 1) * (clock() - began))

    def _encode(self, keys: list[FiguresKey], devices_since: float) -> dict[FiguresKey, bytes]:
        site = SiteFigures.read(devices_since)
        self.computations += len(keys)
        return {key: frames.dashboard(compute_figures(key.caller(), site)) for key in keys}


_feed: FiguresFeed | None = None


def figures_feed() -> FiguresFeed:
    """Return the feed of this process."""
    global _feed
    if _feed is None:
        _feed = FiguresFeed()
    return _feed


def reset_figures() -> None:
    """Discard the feed; the next subscription starts a new one."""
    global _feed
    _feed = None
