"""A private NATS server with JetStream that a test can stop, kill and restart."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetry_site.bus.event_loop import EventLoopThread
from telemetry_site.bus.nats_connection import connect
from tests.telemetry_site.site_process import free_port, wait_until

START_TIMEOUT = 10.0


class PrivateNats:
    """nats-server of the PATH with its own port and store."""

    def __init__(self, folder: Path, **options: Any) -> None:
        binary = shutil.which("nats-server")
        if binary is None:
            pytest.skip("no nats-server on the PATH: tests of the event bus with NATS are not run")
        self.binary, self.folder, self.port, self.monitoring_port = binary, folder, free_port(), free_port()
        self.store = folder / "store"
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitoring_url(self) -> str:
        return f"http://127.0.0.1:{self.monitoring_port}"

    def start(self) -> None:
        config = self.folder / "nats.conf"
        settings = {
            "listen": f"127.0.0.1:{self.port}",
            "http": f"127.0.0.1:{self.monitoring_port}",
            "jetstream": {"store_dir": str(self.store)},
        } | self.options
        config.write_text(json.dumps(settings))
        with (self.folder / "nats.log").open("ab") as log:
            self.process = subprocess.Popen([self.binary, "-c", str(config)], stdout=log, stderr=log)
        wait_until(self._answers, START_TIMEOUT, "the NATS server answers")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(10)

    def messages(self, stream: str) -> list[tuple[str, dict[str, str], Any]]:
        """Return (subject, headers, data) of every message of a stream, in order."""
        with Session(self.url) as session:
            return session.messages(stream)


class Session:
    """A connection for a test, whose calls block."""

    def __init__(self, url: str) -> None:
        self._loop = EventLoopThread("test")
        self.client = self.run(connect(url, "test"))
        self.jetstream = self.client.jetstream()

    def run(self, coroutine: Any) -> Any:
        return self._loop.run(coroutine)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.close(self.client.close())

    def messages(self, stream: str) -> list[tuple[str, dict[str, str], Any]]:
        return self.run(self._messages(stream))

    async def _messages(self, stream: str) -> list[tuple[str, dict[str, str], Any]]:
        from nats.errors import TimeoutError as NoMessages

        subscription = await self.jetstream.pull_subscribe("", stream=stream)
        received: list[tuple[str, dict[str, str], Any]] = []
        expected = (await self.jetstream.stream_info(stream)).state.messages
        deadline = time.monotonic() + 30
        while len(received) < expected:
            assert time.monotonic() < deadline, f"{len(received)} of {expected} messages of {stream} within 30 s"
            try:
                batch = await subscription.fetch(min(256, expected - len(received)), timeout=2)
            except NoMessages:
                continue
            for message in batch:
                received.append((message.subject, dict(message.headers or {}), json.loads(message.data)))
                await message.ack()
        await subscription.unsubscribe()
        return received


def nats_server(folder: Path, **options: Any) -> Iterator[PrivateNats]:
    """Run a server during a fixture."""
    server = PrivateNats(folder, **options)
    yield server
    if server.process is not None and server.process.poll() is None:
        server.stop()
