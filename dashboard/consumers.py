"""The live stream of newest values over a WebSocket."""

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

from dashboard.live_subscription import InvalidSubscription, LiveSubscription, is_same_site
from ingest.authentication import find_caller_async, read_credential, renew_caller
from metrics import stream_follower
from metrics.error_responses import EXPECTED_ERRORS
from metrics.models import Device
from metrics.query import latest
from metrics.required_revision import wait_until_current
from metrics.storage.series_registry import cached_registry
from rest.caller import Caller
from rest.json_names import unique_names

log = logging.getLogger(__name__)

NOT_SIGNED_IN = 4401
WRONG_ORIGIN = MAY_NOT_READ = 4403
FAILED = 1011
HEARTBEAT_S = 5.0
# A socket outlives the request that opened it: after this many heartbeats the session is checked again, if nothing else
# has changed.
SESSION_CHECK_HEARTBEATS = 12
MAX_MESSAGE_LENGTH = 256 * 1024
POINTS_PER_MESSAGE = 2000
MAX_SNAPSHOT_DEVICES = 200


def read_snapshot(devices: set[str] | None, metrics: set[str] | None) -> list[tuple[str, str, float, Any, str | None]]:
    """Return the newest point of each series; nothing for a fleet that is too large, which no page shows whole.

    A metric that is sent on change may not be sent again for hours, so the stream starts with its newest value.
    """
    if devices is None:
        devices = set(Device.objects.values_list("device_id", flat=True)[: MAX_SNAPSHOT_DEVICES + 1])
    if len(devices) > MAX_SNAPSHOT_DEVICES:
        return []
    points = latest.read_latest_points(sorted(devices), None if metrics is None else sorted(metrics)).points
    return [(p.device_id, p.metric_name, p.timestamp.timestamp() * 1000, p.value, p.unit) for p in points]


def visible_devices(caller: Caller, devices: set[str] | None) -> set[str] | None:
    """Return those of these devices (None: all) that a caller sees; None where the caller sees every one."""
    if caller.sees_all:
        return devices
    visible = Device.objects.visible_to(caller)
    selected = visible if devices is None else visible.filter(device_id__in=devices)
    return set(selected.values_list("device_id", flat=True))


class LiveConsumer(AsyncWebsocketConsumer):
    """Sends newest values to one socket, at most as often as its subscription says.

    The relay keeps one value per series for a subscription, and `send` waits while the socket's buffer is full: a slow
    reader receives fewer values, and nothing accumulates here.
    """

    channel_layer_alias = ""  # no Redis: the stream works while it is down
    sending: asyncio.Task[None] | None = None
    relayed: stream_follower.Subscription | None = None
    requested: set[str] | None = None  # devices of the subscription
    revision = -1  # with which `relayed` was limited to the devices that the caller sees
    caller: Caller
    credential: str | None = None
    heartbeat: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        if not is_same_site(self.scope, settings.CSRF_TRUSTED_ORIGINS, settings.BEHIND_PROXY):
            await self.close(WRONG_ORIGIN)
            return
        # Only an accepted socket can pass a close code to the browser, which then shows the sign-in page.
        await self.accept()
        try:
            caller = await self.authenticate()
        except EXPECTED_ERRORS:
            await self.close(FAILED)
            return
        if caller is None:
            await self.close(NOT_SIGNED_IN)
            return
        if not caller.may_read(caller.device_id):
            await self.close(MAY_NOT_READ)
            return
        self.caller = caller
        self.heartbeat = asyncio.create_task(self.send_heartbeats())

    async def authenticate(self) -> Caller | None:
        """Return the caller of the key or token in the headers, else of the session."""
        await wait_until_current(dict(self.scope["headers"]))
        headers = {name: value.decode("latin-1") for name, value in self.scope["headers"]}
        self.credential = read_credential(headers.get(b"x-api-key"), headers.get(b"authorization"))
        if self.credential is not None:
            return await find_caller_async(self.credential)
        user = self.scope["user"]
        return await database_sync_to_async(Caller.of_user)(user) if user.is_authenticated else None

    async def disconnect(self, code: int) -> None:
        for task in (self.sending, self.heartbeat):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.heartbeat is None:
            return
        try:
            if text_data is None or len(text_data) > MAX_MESSAGE_LENGTH:
                raise InvalidSubscription("message must be JSON text of at most 256 KiB")
            subscription = LiveSubscription.parse(json.loads(text_data, object_pairs_hook=unique_names))
        except (InvalidSubscription, ValueError, RecursionError) as error:
            await self.send_message({"type": "error", "detail": str(error)})
            return
        if self.sending is not None:
            self.sending.cancel()
        self.sending = asyncio.create_task(self.send_points(subscription))

    async def send_points(self, subscription: LiveSubscription) -> None:
        """Send a snapshot and then every new point, until the socket closes or sends another subscription."""
        requested = None if subscription.devices is None else set(subscription.devices)
        revision = cached_registry().revision  # before the devices are read: a later change is noticed
        devices = await database_sync_to_async(visible_devices)(self.caller, requested)
        metrics = None if subscription.metrics is None else set(subscription.metrics)
        relayed = stream_follower.follower().subscribe(devices, metrics)
        self.relayed, self.requested, self.revision = relayed, requested, revision
        try:
            await self.send_message({"type": "subscribed", "time_ms": time.time() * 1000})
            points = await database_sync_to_async(read_snapshot)(devices, metrics)
            await self.send_message({"type": "snapshot", "points": points})
            while True:
                points = await relayed.next(subscription.interval_s)
                for start in range(0, len(points), POINTS_PER_MESSAGE):
                    await self.send_message({"type": "points", "points": points[start : start + POINTS_PER_MESSAGE]})
        except asyncio.CancelledError:
            raise
        except Exception:
            # The page connects again and loads the missing points over HTTP.
            log.exception("A live stream failed")
            await self.close(FAILED)
        finally:
            relayed.close()

    async def send_heartbeats(self) -> None:
        """Send the server's time regularly, and apply changes of the caller's device groups."""
        sent = 0
        while True:
            await self.send_message({"type": "heartbeat", "time_ms": time.time() * 1000})
            await asyncio.sleep(HEARTBEAT_S)
            sent += 1
            try:
                code = await self.apply_changes(sent)
            except Exception:
                log.exception("The credentials of a live stream cannot be checked")
                code = FAILED
            if code is not None:
                await self.close(code)
                return

    async def apply_changes(self, heartbeats: int) -> int | None:
        """Limit the stream to the devices that the caller sees now; return the close code once it may not read.

        Changes of keys, users and memberships change the revision; a session may also end without one.
        """
        revision, relayed = cached_registry().revision, self.relayed
        is_changed = revision != self.revision
        if self.credential is not None:
            caller = await renew_caller(self.credential, self.caller)
        elif is_changed or heartbeats % SESSION_CHECK_HEARTBEATS == 0:
            caller = await self.find_session_caller()
        else:
            return None
        if caller is None:
            return NOT_SIGNED_IN
        if not caller.may_read(caller.device_id):
            return MAY_NOT_READ
        self.caller = caller
        if is_changed and relayed is not None:
            relayed.limit(await database_sync_to_async(visible_devices)(caller, self.requested))
            if relayed is self.relayed:
                self.revision = revision
        return None

    @database_sync_to_async
    def find_session_caller(self) -> Caller | None:
        session = self.scope["session"]
        user = get_user_model().objects.filter(pk=self.scope["user"].pk, is_active=True).first()
        if user is None or not session.session_key or not session.exists(session.session_key):
            return None
        return Caller.of_user(user)

    async def send_message(self, message: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(message, ensure_ascii=False, separators=(",", ":"), default=str))
