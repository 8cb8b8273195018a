"""Publishing to JetStream without waiting for each acknowledgement.

The client library has this too, but it raises the errors of JetStream where it reads them, so that whoever waits for
the acknowledgement never learns of them.
"""

import asyncio
import itertools
from typing import Any, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

WRONG_LAST_MESSAGE = 10070  # error code of JetStream
_NO_RESPONDERS = "503"


class Acknowledgement(NamedTuple):
    """JetStream's answer to one message: stored, or the error."""

    error: str = ""
    error_code: int = 0


class Publisher:
    """Publishes on one connection; answers arrive at one inbox."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._waiting: dict[str, asyncio.Future[Acknowledgement]] = {}
        self._numbers = itertools.count()

    async def start(self) -> None:
        """Subscribe to the answers."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._receive)

    async def publish(self, subject: str, payload: bytes, headers: dict[str, Any]) -> "asyncio.Future[Acknowledgement]":
        """Send a message; return the future of its acknowledgement, which has no timeout."""
        reply = f"{self._inbox}.{next(self._numbers)}"
        future: asyncio.Future[Acknowledgement] = asyncio.get_running_loop().create_future()
        self._waiting[reply] = future
        future.add_done_callback(lambda _: self._waiting.pop(reply, None))
        await self._client.publish(subject, payload, reply=reply, headers=headers)
        return future

    async def _receive(self, message: Msg) -> None:
        future = self._waiting.get(message.subject)
        if future is not None and not future.done():
            future.set_result(_read(message))


def _read(message: Msg) -> Acknowledgement:
    if (message.headers or {}).get("Status") == _NO_RESPONDERS:
        return Acknowledgement("the stream does not exist, or JetStream is off")
    try:
        error = msgspec.json.decode(message.data).get("error")
        if error is None:
            return Acknowledgement()
        return Acknowledgement(f"JetStream: {error['description']}", int(error.get("err_code", 0)))
    except (ValueError, AttributeError, KeyError, TypeError):
        return Acknowledgement("the answer of JetStream cannot be read")
