"""A TCP proxy in front of the site that can be cut, can block WebSockets, and can answer /ws/live itself."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

from websockets.sync.server import Server, ServerConnection, serve

Script = Callable[[ServerConnection], None]
CHUNK = 65_536


class StreamProxy:
    """Passes connections on to the site, each by the path of its first request.

    script              answers connections to /ws/live instead of the site
    blocks_websockets   whether connections to /ws/ are closed, as some company networks do
    stream_connections  number of connections to /ws/ and /sse/ so far
    connections         number of all connections so far
    """

    def __init__(self, site_port: int) -> None:
        self.site_port = site_port
        self.port = 0
        self.script: Script | None = None
        self.blocks_websockets = False
        self.stream_connections = 0
        self.connections = 0
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._scripted: Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._scripted = serve(self._play, "127.0.0.1", 0, compression=None)
        threading.Thread(target=self._scripted.serve_forever, daemon=True).start()
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._handle, "127.0.0.1", 0), self._loop)
        self._server = starting.result(10)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.cut()
        assert self._scripted
        self._scripted.shutdown()
        self._server.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Abort every connection, and every new one until `restore`."""
        self._is_cut = True
        aborted = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (self._abort(), aborted.set()))
        assert aborted.wait(10)

    def restore(self) -> None:
        self._is_cut = False

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _play(self, connection: ServerConnection) -> None:
        assert self.script
        self.script(connection)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._is_cut:
                writer.transport.abort()
                return
            await self._pass_on(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first_line = await reader.readuntil(b"\r\n")
        path = first_line.split(b" ")[1]
        self.connections += 1
        is_websocket = path.startswith(b"/ws/")
        self.stream_connections += is_websocket or path.startswith(b"/sse/")
        if is_websocket and self.blocks_websockets:
            return
        port = self._scripted_port() if is_websocket and self.script else self.site_port
        site_reader, site_writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers.add(site_writer)
        site_writer.write(first_line)
        try:
            tasks = [
                asyncio.create_task(_pump(reader, site_writer)),
                asyncio.create_task(_pump(site_reader, writer)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await task
        finally:
            self._writers.discard(site_writer)
            site_writer.transport.abort()

    def _scripted_port(self) -> int:
        assert self._scripted
        port: int = self._scripted.socket.getsockname()[1]
        return port


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
