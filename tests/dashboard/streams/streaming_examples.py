"""The examples of docs/integrate/streaming.md as processes, and a proxy that cuts their connections."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.telemetry_site.site_process import ROOT, free_port

DOCUMENT = ROOT / "docs/integrate/streaming.md"


def read_example(name: str) -> str:
    """Return the code block whose first line names the file."""
    blocks = re.findall(r"^```\w+\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    [found] = [block for block in blocks if re.match(rf"\S+ {re.escape(name)}\b", block)]
    return str(found)


def write_examples(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(read_example(name))


class Example:
    """A running example, and the lines that it printed."""

    def __init__(self, folder: Path, command: Sequence[str], **variables: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line.rstrip("\n"))

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._reader.join(10)

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]


class PythonClient(Example):
    """The Python client of the document."""

    def __init__(self, folder: Path, url: str, key: str) -> None:
        write_examples(folder, "client.py")
        super().__init__(folder, [sys.executable, "client.py"], URL=url, KEY=key)

    def series(self, metric: str) -> dict[datetime, float]:
        """Return the values of a metric that the client printed, by time."""
        return {
            datetime.fromisoformat(value["timestamp"]): value["value"]
            for value in self.objects()
            if value.get("metric_name") == metric
        }

    def skipped(self, metric: str) -> int:
        """Return how many values of a metric the stream says that it skipped."""
        return sum(value.get("skipped", 0) for value in self.objects() if value.get("metric_name") == metric)


class Proxy:
    """A TCP proxy in front of a site. `cut` resets all connections and those that follow, until `mend`."""

    def __init__(self, target: int) -> None:
        self.target, self.port, self.is_cut = target, free_port(), False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self, started: threading.Event) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(task)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        await asyncio.gather(self._copy(reader, up_writer), self._copy(up_reader, writer))
        self._writers -= {writer, up_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def _call(self, function: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(10)

    def cut(self) -> None:
        def cut() -> None:
            self.is_cut = True
            for writer in self._writers:
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # a reset instead of an orderly end
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()

        self._call(cut)

    def mend(self) -> None:
        self.is_cut = False

    def stop(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
