"""Buffers of connections with a live stream: small while it is open, so that a client that does not read is noticed."""

import asyncio
import contextlib
import socket

# Bytes that are written but not sent: at the first sending waits, at the second it continues.
HIGH_WATER, LOW_WATER = 64 * 1024, 16 * 1024
# Bytes that the kernel buffers. By default it buffers megabytes, and a client that stopped reading is noticed late.
SEND_BUFFER = 128 * 1024
# Room for the last frames, beside those that a slow client has not read: the kernel delivers them when that client
# reads again, also long after the connection was cut here.
CLOSING_SEND_BUFFER = 1024 * 1024
CLOSE_TIMEOUT = 5.0  # seconds until a connection is cut whose client does not read the last frames


def bound_buffers(transport: asyncio.Transport) -> None:
    """Let little wait for a client that does not read."""
    transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
    _set_send_buffer(transport, SEND_BUFFER)


def extend_before_close(transport: asyncio.Transport) -> None:
    """Let the kernel take what was written before a close."""
    _set_send_buffer(transport, CLOSING_SEND_BUFFER)


def _set_send_buffer(transport: asyncio.Transport, size: int) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):  # the kernel has its own limit
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
