"""A live stream of one caller, independent of its content and of its connection.

`telemetry_consumer` and `live_consumer` derive from StreamSession; `websocket` and `sse` open sessions. What a session
may send depends on its caller, whose rights `open_sessions` checks again as long as it is open.
"""

import asyncio
from typing import Any

from dashboard.streams.access import Access
from dashboard.streams.authentication import Parameters
from dashboard.streams.close_codes import TOO_MANY_INVALID_MESSAGES, CloseReason
from dashboard.streams.frames import message_error
from dashboard.streams.socket_writer import SocketWriter, StreamTransport
from rest.caller import Caller

MAX_INVALID_MESSAGES = 10
RESUME_FROM = "resume_from"  # parameter with the position up to which the client has received the stream


class InvalidMessage(Exception):
    """An invalid message or parameter; its text names the field and the accepted values."""


class StreamSession:
    """An open stream.

    parameters  of the URL, without the ticket
    path        what follows the stream's prefix in the URL, such as a subscription ID
    caller      whose rights decide what is sent; replaced when they change
    """

    def __init__(
        self, transport: StreamTransport, access: Access, caller: Caller, parameters: Parameters, path: str
    ) -> None:
        self.access, self.caller = access, caller
        self.parameters, self.path = parameters, path
        self.writer = SocketWriter(transport, self.end)
        self._invalid_messages = 0
        self._ending: asyncio.Task[None] | None = None

    # --- what each kind of stream does --------------------------------------------------------------

    async def open(self) -> None:
        """Send the first frames and subscribe to the later ones. Raises Refused."""

    async def receive(self, message: dict[str, Any]) -> None:
        """Handle a message of the client. Raises InvalidMessage and Refused."""

    async def revision_changed(self) -> None:
        """Apply changed rights and memberships; called after `caller` has been renewed at a new revision."""

    async def closed(self) -> None:
        """Release feeds; called once."""

    @property
    def subscription_id(self) -> str | None:
        """The stored subscription without which the stream ends."""
        return None

    # --- the end ------------------------------------------------------------------------------------

    @property
    def is_ending(self) -> bool:
        return self._ending is not None

    def end(self, reason: CloseReason | None) -> None:
        """Close the stream with an error frame; None: the connection is lost. Called in the event loop, never waits."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self.writer.close(reason))

    async def wait_until_ended(self) -> None:
        """Wait until the error frame has been sent."""
        if self._ending is not None:
            await asyncio.wait([self._ending])

    def reject_message(self, detail: str) -> None:
        """Answer a message that is not valid; ends the stream after ten of them."""
        self._invalid_messages += 1
        self.writer.reply(message_error(detail))
        if self._invalid_messages >= MAX_INVALID_MESSAGES:
            self.end(TOO_MANY_INVALID_MESSAGES)
