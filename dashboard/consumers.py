"""The live stream to one page."""

import asyncio
import contextlib
import json
import logging
import time
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user_model

from dashboard.subscriptions import BadRequest, LiveRequest, same_site
from ingest.authentication import find_caller_async, is_still_valid, read_credential
from metrics import stream_follower
from metrics.models import Device
from metrics.query import latest
from rest.caller import Caller

log = logging.getLogger(__name__)

NOT_SIGNED_IN = 4401
WRONG_ORIGIN = MAY_NOT_READ = 4403
FAILED = 1011
HEARTBEAT_S = 5.0
# A socket outlives the page view that opened it: every so many heartbeats the session is looked up again.
SESSION_CHECK = 12
LONGEST_MESSAGE = 256 * 1024
POINTS_PER_MESSAGE = 2000
SNAPSHOT_DEVICES = 200


def newest(devices: set[str] | None, metrics: set[str] | None) -> list[tuple[str, str, float, Any, str | None]]:
    """What is true as the stream begins: a metric that is sent on change may not come again today.

    Of fleets too large to be told at once nothing is told; no page shows one whole.
    """
    if devices is None:
        devices = set(Device.objects.values_list("device_id", flat=True)[: SNAPSHOT_DEVICES + 1])
    if len(devices) > SNAPSHOT_DEVICES:
        return []
    points = latest.read_latest_points(sorted(devices), None if metrics is None else sorted(metrics)).points
    return [(p.device_id, p.metric_name, p.timestamp.timestamp() * 1000, p.value, p.unit) for p in points]


def seen_of(caller: Caller, devices: set[str] | None) -> set[str] | None:
    """Those of these devices (None: of all) that somebody sees; None where that is every one."""
    if caller.groups is None and caller.device_id is None:
        return devices
    seen = Device.objects.visible_to(caller)
    found = seen if devices is None else seen.filter(device_id__in=devices)
    return set(found.values_list("device_id", flat=True))


class LiveConsumer(AsyncWebsocketConsumer):
    """Newest values to one socket, as often as it asked for and can take.

    The relay keeps one value per series for a subscription, and `send` waits while the socket is full: a slow reader
    sees fewer values, and nothing piles up here.
    """

    channel_layer_alias = ""  # nothing comes by way of Redis here: values flow while it is down
    telling: asyncio.Task[None] | None = None
    caller: Caller
    credential: str | None = None
    beating: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        if not same_site(dict(self.scope["headers"]), settings.CSRF_TRUSTED_ORIGINS):
            await self.close(WRONG_ORIGIN)
            return
        # Only an accepted socket can tell a browser why it closes; the page then leads to the sign-in.
        await self.accept()
        caller = await self.who()
        if caller is None:
            await self.close(NOT_SIGNED_IN)
            return
        if not caller.may_read(caller.device_id):
            await self.close(MAY_NOT_READ)
            return
        self.caller = caller
        self.beating = asyncio.create_task(self.beat())

    async def who(self) -> Caller | None:
        """Whoever a key or a token in the headers names, else the person of the session."""
        headers = {name: value.decode("latin-1") for name, value in self.scope["headers"]}
        self.credential = read_credential(headers.get(b"x-api-key"), headers.get(b"authorization"))
        if self.credential is not None:
            return await find_caller_async(self.credential)
        user = self.scope["user"]
        return await database_sync_to_async(Caller.of_user)(user) if user.is_authenticated else None

    async def disconnect(self, code: int) -> None:
        for task in (self.telling, self.beating):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.beating is None:
            return
        try:
            if text_data is None or len(text_data) > LONGEST_MESSAGE:
                raise BadRequest("messages are JSON texts")
            wanted = LiveRequest.parse(json.loads(text_data))
        except (BadRequest, ValueError, RecursionError) as error:
            await self.tell({"type": "error", "detail": str(error)})
            return
        if self.telling is not None:
            self.telling.cancel()
        self.telling = asyncio.create_task(self.follow(wanted))

    async def follow(self, wanted: LiveRequest) -> None:
        asked = None if wanted.devices is None else set(wanted.devices)
        devices = await database_sync_to_async(seen_of)(self.caller, asked)
        metrics = None if wanted.metrics is None else set(wanted.metrics)
        subscription = stream_follower.follower().subscribe(devices, metrics)
        try:
            await self.tell({"type": "subscribed", "time_ms": time.time() * 1000})
            await self.tell({"type": "snapshot", "points": await database_sync_to_async(newest)(devices, metrics)})
            while True:
                points = await subscription.next(wanted.interval_s)
                for start in range(0, len(points), POINTS_PER_MESSAGE):
                    await self.tell({"type": "points", "points": points[start : start + POINTS_PER_MESSAGE]})
        except asyncio.CancelledError:
            raise
        except Exception:
            # The page connects again and asks by HTTP for what it missed.
            log.exception("The live stream of one page ended")
            await self.close(FAILED)
        finally:
            subscription.close()

    async def beat(self) -> None:
        """Tells the page that the way is open and what time it is here, and notices when the reader was signed out."""
        beats = 0
        while True:
            await self.tell({"type": "heartbeat", "time_ms": time.time() * 1000})
            await asyncio.sleep(HEARTBEAT_S)
            beats += 1
            try:
                welcome = await self.still_welcome(beats)
            except Exception:
                log.exception("It cannot be seen whether a reader of the live stream is still welcome")
                await self.close(FAILED)
                return
            if not welcome:
                await self.close(NOT_SIGNED_IN)
                return

    async def still_welcome(self, beats: int) -> bool:
        if self.credential is not None:
            return await is_still_valid(self.credential, self.caller)
        return beats % SESSION_CHECK != 0 or await self.still_signed_in()

    @database_sync_to_async
    def still_signed_in(self) -> bool:
        session = self.scope["session"]
        user = get_user_model().objects.filter(pk=self.scope["user"].pk, is_active=True).first()
        if user is None or not session.session_key or not session.exists(session.session_key):
            return False
        return Caller.of_user(user) == self.caller  # else the page comes again, and sees what it may see now

    async def tell(self, message: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(message, ensure_ascii=False, separators=(",", ":"), default=str))
