"""Registration of the web process as a service in Consul, through the HTTP API of a Consul agent.

The process registers itself with a health check and deregisters at shutdown. It reads its registration every
CHECK_PERIOD seconds and registers again if the agent has lost it. No answer, a slow or an unusable answer only delays
the registration: every call has a deadline and runs in a task of its own.
"""

import asyncio
import ipaddress
import json
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.http.request import validate_host

from telemetry_site.consul_address import AgentAddress, bracketed

log = logging.getLogger(__name__)

SERVICE = "telemetry"
HEALTH_PATH = "/readyz"
# Seconds. Consul removes a service after it has been unhealthy for REMOVED_AFTER; the next check registers it again.
CHECK_PERIOD, RETRY_PERIOD = 15.0, 5.0
CALL_TIMEOUT, STOP_TIMEOUT = 5.0, 1.5
HEALTH_INTERVAL, HEALTH_TIMEOUT, REMOVED_AFTER = "10s", "5s", "30m"


class AgentFailed(Exception):
    """The Consul agent did not answer, or answered with an error; the message is one line."""


class Agent:
    """Client of a Consul agent."""

    def __init__(self, address: AgentAddress, token: str) -> None:
        self.address, self._token = address, token

    @asynccontextmanager
    async def connect(self, timeout: float) -> AsyncIterator["AgentConnection"]:
        """Open a connection for one call; the deadline includes everything. Raises AgentFailed."""
        writer = None
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await self._open()
                yield AgentConnection(self.address, self._token, reader, writer)
        except TimeoutError:
            raise AgentFailed(f"no answer within {timeout:g} s") from None
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise AgentFailed(f"{type(error).__name__}: {error}".split("\n")[0]) from None
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.address.unix_path:
            return await asyncio.open_unix_connection(self.address.unix_path)
        # Reading the certificates of the system takes tens of milliseconds.
        context = await asyncio.to_thread(ssl.create_default_context) if self.address.is_tls else None
        return await asyncio.open_connection(self.address.host, self.address.port, ssl=context)


@dataclass(frozen=True)
class AgentConnection:
    """An open connection to the agent, for one call."""

    address: AgentAddress
    token: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def local_address(self) -> str:
        """The IP address by which this machine reaches the agent; empty on a Unix socket."""
        name = self.writer.get_extra_info("sockname")
        return str(name[0]) if isinstance(name, tuple) else ""

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> int:
        """Send a request and return the status of the response, whose body is of no interest."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self.address.header}",
            "Connection: close",
            f"Content-Length: {len(content)}",
            *([f"X-Consul-Token: {self.token}"] if self.token else []),
        ]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        status_line = await self.reader.readuntil(b"\r\n")
        match = re.match(rb"HTTP/1\.[01] (\d{3})\b", status_line)
        if match is None:
            raise AgentFailed(f"not HTTP: {status_line[:40]!r}")
        return int(match[1])


class Registration:
    """The registration of this web process."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        # The same after a restart; different for the processes of one machine, which cannot share a port.
        self.service_id = f"{SERVICE}-{socket.gethostname()}-{settings.PORT}"
        self._failure: str | None = None  # the one logged last; None after a success

    async def keep(self) -> None:
        """Register, and register again whenever the agent has lost the registration; until cancelled."""
        is_registered = False
        while True:
            try:
                if not is_registered or not await self._is_known():
                    is_registered = False
                    await self._register()
                    is_registered = True
                    log.info("registered in Consul as %s", self.service_id)
                self._failure = None
            except AgentFailed as error:
                self._log_failure(str(error))
            except Exception:  # this task must not end: without it the registration is never renewed
                log.exception("the registration in Consul failed")
            await asyncio.sleep(CHECK_PERIOD if is_registered else RETRY_PERIOD)

    async def remove(self) -> None:
        """Deregister. A failure is logged: Consul removes the service after REMOVED_AFTER."""
        path = f"/v1/agent/service/deregister/{quote(self.service_id, safe='')}"
        try:
            async with self.agent.connect(STOP_TIMEOUT) as connection:
                _expect_ok(await connection.call("PUT", path))
        except AgentFailed as error:
            log.warning("the service cannot be deregistered from Consul: %s", error)
        except Exception:  # the site stops all the same
            log.exception("the service cannot be deregistered from Consul")

    async def _is_known(self) -> bool:
        async with self.agent.connect(CALL_TIMEOUT) as connection:
            status = await connection.call("GET", f"/v1/agent/service/{quote(self.service_id, safe='')}")
        if status == 404:
            return False
        _expect_ok(status)
        return True

    async def _register(self) -> None:
        async with self.agent.connect(CALL_TIMEOUT) as connection:
            document = service_document(self.service_id, connection.local_address)
            # Checks of an earlier version would stay otherwise.
            path = "/v1/agent/service/register?replace-existing-checks=true"
            _expect_ok(await connection.call("PUT", path, document))

    def _log_failure(self, failure: str) -> None:
        if failure != self._failure:
            log.warning("the registration in Consul failed, the next attempts follow: %s", failure)
        self._failure = failure


def configured_registration() -> Registration | None:
    """Return the registration with the agent of CONSUL_HTTP_ADDR; None if there is none."""
    address = settings.CONSUL_AGENT
    return None if address is None else Registration(Agent(address, settings.CONSUL_TOKEN))


def service_document(service_id: str, local_address: str) -> dict[str, Any]:
    """Return the body of a registration.

    A process that listens on all addresses is registered with the one by which it reaches the agent. If the agent is
    on this machine, that one is left out: Consul then uses the address of its node.
    """
    listening = ipaddress.ip_address("127.0.0.1" if settings.HOST == "localhost" else settings.HOST)
    check_address, address = str(listening), str(listening)
    if listening.is_unspecified:
        is_same_machine = not local_address or ipaddress.ip_address(local_address.split("%")[0]).is_loopback
        loopback = "127.0.0.1" if listening.version == 4 else "::1"
        check_address, address = (loopback, "") if is_same_machine else (local_address, local_address)
    return {
        "ID": service_id,
        "Name": SERVICE,
        **({"Address": address} if address else {}),
        "Port": settings.PORT,
        "Meta": {"version": settings.VERSION},
        "Check": {
            "CheckID": f"{service_id}-health",
            "Name": "Readiness",
            "HTTP": f"http://{bracketed(check_address)}:{settings.PORT}{HEALTH_PATH}",
            "Header": _check_headers(check_address),
            "Interval": HEALTH_INTERVAL,
            "Timeout": HEALTH_TIMEOUT,
            "DeregisterCriticalServiceAfter": REMOVED_AFTER,
        },
    }


def _check_headers(address: str) -> dict[str, list[str]]:
    """Return the headers with which the site answers the agent as it answers its proxy."""
    headers = {}
    if not validate_host(bracketed(address), settings.ALLOWED_HOSTS):
        headers["Host"] = [settings.ALLOWED_HOSTS[0].removeprefix(".")]
    if settings.BEHIND_PROXY and settings.HTTPS:
        headers["X-Forwarded-Proto"] = ["https"]
    return headers


def _expect_ok(status: int) -> None:
    if status != 200:
        raise AgentFailed(f"status {status}")
