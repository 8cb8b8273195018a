"""Connections to NATS that end with their first failure; the user of a connection opens the next one."""

import asyncio

import nats
import nats.errors
from nats.aio.client import Client

CONNECT_TIMEOUT = 3  # seconds
CALL_TIMEOUT = 5.0  # seconds of a call of the JetStream API
PING_INTERVAL = 10  # seconds
MISSED_PINGS = 2  # after which a connection counts as broken


async def _ignore(error: Exception) -> None:
    """Leave errors to the calls that fail by them; by default nats-py writes a traceback for each."""


async def connect(url: str, name: str) -> Client:
    """Connect to the first server of a comma-separated list that answers."""
    return await asyncio.wait_for(
        nats.connect(
            [server.strip() for server in url.split(",")],
            name=f"telemetry {name}",
            allow_reconnect=False,
            connect_timeout=CONNECT_TIMEOUT,
            ping_interval=PING_INTERVAL,
            max_outstanding_pings=MISSED_PINGS,
            error_cb=_ignore,
        ),
        CONNECT_TIMEOUT * (url.count(",") + 2),
    )


def error_text(error: BaseException) -> str:
    """Return one line about an error of a NATS call, for operators."""
    if isinstance(error, TimeoutError | asyncio.TimeoutError | nats.errors.TimeoutError):
        return "the NATS server does not answer"
    if isinstance(error, nats.errors.NoServersError | ConnectionError | nats.errors.ConnectionClosedError):
        return "the NATS server cannot be reached"
    text = getattr(error, "description", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:500]
