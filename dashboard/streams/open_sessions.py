"""The open streams of this process: their number per caller, heartbeats, and regular checks of their rights."""

import asyncio
import logging
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import count

from django.db import OperationalError

from dashboard.streams import frames, subscriptions
from dashboard.streams.access import Access
from dashboard.streams.authentication import Refused, in_thread
from dashboard.streams.close_codes import (
    ACCESS_ENDED,
    CREDENTIAL_EXPIRED,
    FAILED,
    MAY_NOT_READ,
    TOO_MANY_STREAMS,
    UNKNOWN_SUBSCRIPTION,
    CloseReason,
    unavailable,
)
from dashboard.streams.session import StreamSession
from metrics.error_responses import DATABASE_UNAVAILABLE
from metrics.storage.errors import StorageUnavailable
from metrics.storage.series_registry import cached_registry
from rest.caller import Caller

log = logging.getLogger(__name__)

MAX_STREAMS = 50  # per caller and process
TICK = 1.0  # seconds
MAX_UNCHECKED = 25.0  # seconds for which streams go on while rights cannot be read
# In ticks. Streams take turns, so that thousands of them do not send at the same moment.
PING_PERIOD = 25
RIGHTS_PERIOD = 30
CANCEL_PERIOD = 2  # in which subscriptions that were cancelled in another process are noticed
EXTENSION_PERIOD = int(subscriptions.EXTENSION_PERIOD.total_seconds())


class OpenSessions:
    """The open streams of one event loop, and the task that looks after them while there are any."""

    def __init__(self) -> None:
        self._sessions: dict[StreamSession, int] = {}
        self._owners: Counter[str] = Counter()
        self._numbers = count()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._revision = -1
        self._unchecked_since: float | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def sessions(self) -> list[StreamSession]:
        return list(self._sessions)

    def add(self, session: StreamSession) -> None:
        """Count a stream. Raises Refused when its caller has too many."""
        owner = session.access.owner
        if self._owners[owner] >= MAX_STREAMS:
            raise Refused(TOO_MANY_STREAMS)
        self._owners[owner] += 1
        self._sessions[session] = next(self._numbers)
        if self._task is None or self._task.done():
            self._revision = cached_registry().revision
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._run())

    def discard(self, session: StreamSession) -> None:
        if self._sessions.pop(session, None) is not None:
            owner = session.access.owner
            self._owners[owner] -= 1
            if not self._owners[owner]:
                del self._owners[owner]

    def end_all(self, reason: CloseReason) -> None:
        """End every stream, such as before the server stops."""
        for session in list(self._sessions):
            session.end(reason)

    def end_subscription_soon(self, subscription_id: str) -> None:
        """Do the same as `end_subscription` from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.end_subscription, subscription_id)

    def end_subscription(self, subscription_id: str) -> None:
        """End the streams of a subscription that was cancelled."""
        for session in self.sessions:
            if session.subscription_id == subscription_id:
                session.end(UNKNOWN_SUBSCRIPTION)

    # --- heartbeats and rights ----------------------------------------------------------------------

    async def _run(self) -> None:
        tick = 0
        while self._sessions:
            await asyncio.sleep(TICK)
            tick += 1
            try:
                self._send_pings(tick)
                await self._check_rights(tick)
                await self._check_subscriptions(tick)
                self._unchecked_since = None
            except (OperationalError, StorageUnavailable) as error:
                log.warning("open streams cannot be checked: %s", str(error).split("\n")[0])
                self._check_failed()
            except Exception:  # the task must go on for the other streams
                log.exception("open streams cannot be checked")

    def _check_failed(self) -> None:
        """Check all streams in the next tick, and end them when none could be checked for long."""
        self._revision = -1
        self._unchecked_since = self._unchecked_since or time.monotonic()
        if time.monotonic() - self._unchecked_since > MAX_UNCHECKED:
            self.end_all(unavailable(DATABASE_UNAVAILABLE))

    def _send_pings(self, tick: int) -> None:
        frame: bytes | None = None
        for session, number in self._sessions.items():
            if number % PING_PERIOD == tick % PING_PERIOD:
                frame = frame or frames.ping(datetime.now(UTC))
                session.writer.offer_ping(frame)

    async def _check_rights(self, tick: int) -> None:
        """Check all streams after a change of the revision, else those whose turn it is."""
        revision = cached_registry().revision
        is_changed, self._revision = revision != self._revision, revision
        checked: dict[Access, list[StreamSession]] = {}
        for session, number in self._sessions.items():
            if is_changed or number % RIGHTS_PERIOD == tick % RIGHTS_PERIOD:
                checked.setdefault(session.access, []).append(session)
        for access, sessions in checked.items():
            await self._renew(access, sessions, is_changed)

    async def _check_subscriptions(self, tick: int) -> None:
        """End streams whose subscription is gone, and extend the other subscriptions."""
        used = {session.subscription_id for session in self._sessions} - {None}
        if not used or tick % CANCEL_PERIOD:
            return
        existing = await in_thread(subscriptions.existing, used)
        for subscription_id in used - existing:
            self.end_subscription(subscription_id)
        if existing and tick % EXTENSION_PERIOD == 0:
            await in_thread(subscriptions.extend, existing)

    async def _renew(self, access: Access, sessions: list[StreamSession], is_changed: bool) -> None:
        """Check the rights of one caller. Raises OperationalError and StorageUnavailable."""
        before = sessions[0].caller
        try:
            caller: Caller | None = await in_thread(access.renew, before)
        except (OperationalError, StorageUnavailable):
            raise
        except Exception:
            log.exception("the rights of a stream cannot be checked")
            for session in sessions:
                session.end(FAILED)
            return
        reason = _reason_to_end(before, caller)
        for session in sessions:
            if reason is not None or caller is None:
                session.end(reason)
                continue
            session.caller = caller
            if is_changed and not session.is_ending:
                await self._apply_change(session)

    async def _apply_change(self, session: StreamSession) -> None:
        try:
            await session.revision_changed()
        except Refused as refused:
            session.end(refused.reason)
        except (OperationalError, StorageUnavailable):
            session.end(unavailable(DATABASE_UNAVAILABLE))
        except Exception:
            log.exception("changed rights cannot be applied to a stream")
            session.end(FAILED)


def _reason_to_end(before: Caller, caller: Caller | None) -> CloseReason | None:
    """Return the reason to end a stream after its caller was renewed; None if it stays open."""
    if caller is None:
        is_expired = before.expires <= datetime.now(UTC).timestamp()
        return CREDENTIAL_EXPIRED if is_expired else ACCESS_ENDED
    return None if caller.may_read(caller.device_id) else MAY_NOT_READ


_open = OpenSessions()


def open_sessions() -> OpenSessions:
    """Return the open streams of this process."""
    return _open


def reset_open_sessions() -> None:
    """Forget the open streams; those of a parent process are not streams of its child."""
    global _open
    _open = OpenSessions()
