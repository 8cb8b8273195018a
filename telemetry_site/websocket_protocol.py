"""The WebSocket protocol of the web process: uvicorn's, with bounded buffers and a reason for every close.

uvicorn closes a socket that breaks the protocol, or at the end of the server, without a message that a script can read;
and it waits before a write, so that a client that does not read is noticed one frame later and cannot be closed.
"""

from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Close, Frame, Opcode

from dashboard.streams.close_codes import INVALID_FRAME, OVERSIZED_MESSAGE, RESTARTING, CloseReason
from telemetry_site.send_buffer import CLOSE_TIMEOUT, bound_buffers, extend_before_close

RESTART_TIMEOUT = 1.0  # seconds, when the server stops
TOO_BIG = 1009  # close code of RFC 6455


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """The protocol class for `uvicorn --ws`; one object per connection."""

    _cut: TimerHandle | None = None
    _ignores_input = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        bound_buffers(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._ignores_input:
            super().data_received(data)

    async def send(self, message: Any) -> None:
        """Write a message and wait until the client has read enough for the next one; a close does not wait.

        Text may be given as bytes in UTF-8.
        """
        text = message.get("text")
        if self.handshake_complete and self.close_sent:
            raise ClientDisconnected
        if message["type"] == "websocket.close":
            self.writable.set()
            await super().send(message)
            extend_before_close(self.transport)
            self._cut_after(CLOSE_TIMEOUT)
        elif text is not None and self.handshake_complete:
            if self.disconnected or self.transport.is_closing():
                raise ClientDisconnected
            self._write(Frame(Opcode.TEXT, text if isinstance(text, bytes) else text.encode()))
            await self.writable.wait()
        else:
            await super().send(message)

    def handle_parser_exception(self) -> None:
        """Close a connection whose client broke the protocol or sent a message over the size limit."""
        assert self.conn.close_sent is not None
        self.conn.data_to_send()  # uvicorn's close frame, whose code clients cannot tell from others
        reason = OVERSIZED_MESSAGE if self.conn.close_sent.code == TOO_BIG else INVALID_FRAME
        if self.handshake_complete and not self.close_sent:
            self._write_reason(reason)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": reason.code, "reason": reason.close_text})
        self.close_sent = self._ignores_input = True
        self.stop_keepalive()
        # Closed at once, the kernel would reset the connection and drop the reason, since input is left unread.
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self._cut_after(CLOSE_TIMEOUT)

    def shutdown(self) -> None:
        """Tell the client that the server stops, and close the connection."""
        if self.handshake_complete and not self.close_sent and not self.transport.is_closing():
            self.stop_keepalive()
            self._write_reason(RESTARTING)
            self.queue.put_nowait({"type": "websocket.disconnect", "code": RESTARTING.code})
            self.close_sent = True
            self.transport.close()
        else:
            super().shutdown()
        self._cut_after(RESTART_TIMEOUT)

    def _write_reason(self, reason: CloseReason) -> None:
        self._write(Frame(Opcode.TEXT, reason.frame))
        self._write(Frame(Opcode.CLOSE, Close(reason.code, reason.close_text).serialize()))

    def _write(self, frame: Frame) -> None:
        self.transport.write(frame.serialize(mask=False))

    def _cut_after(self, seconds: float) -> None:
        """Abort the connection unless it is closed before; data outside of the kernel's buffer is discarded."""
        if self.close_timer is not None:
            self.close_timer.cancel()
        if self._cut is not None:
            self._cut.cancel()
        self._cut = self.close_timer = self.loop.call_later(seconds, self.transport.abort)
