"""WebSocket server on the loopback (RFC 6455): each snapshot as a text frame, for local viewers."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import socket
import struct
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

log = logging.getLogger(__name__)
MAX_CLIENTS = 16
MAX_HEAD = 8192  # bytes of the handshake
MAX_FRAME = 64 * 1024  # bytes that a client may send in one frame; it has nothing to say
HANDSHAKE_TIME = 5.0  # seconds
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LOCAL = {"localhost", "127.0.0.1", "::1"}
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


class ProtocolError(ValueError):
    """The client breaks the protocol; `code` is the close code."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def frame(opcode: int, data: bytes) -> bytes:
    """Return an unmasked, unfragmented frame."""
    if len(data) < 126:
        return struct.pack(">BB", 0x80 | opcode, len(data)) + data
    if len(data) < 65536:
        return struct.pack(">BBH", 0x80 | opcode, 126, len(data)) + data
    return struct.pack(">BBQ", 0x80 | opcode, 127, len(data)) + data


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept of a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode("latin-1") + _GUID).digest()).decode()  # noqa: S324 - RFC 6455


def handshake(head: bytes) -> tuple[bool, bytes]:
    """Return whether a request is accepted, and the answer."""
    request, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    origin = headers.get("origin")
    try:
        is_local = origin is None or urlsplit(origin).hostname in _LOCAL
        is_key = len(base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)) == 16
    except ValueError:
        is_local = is_key = False
    if origin is not None and not is_local:  # a page of another site in a browser of this machine
        return False, _refusal("403 Forbidden")
    is_upgrade = (
        "websocket" in headers.get("upgrade", "").lower() and "upgrade" in headers.get("connection", "").lower()
    )
    if not request.startswith("GET ") or not is_upgrade or not is_key:
        return False, _refusal("426 Upgrade Required", "Upgrade: websocket\r\n")
    if headers.get("sec-websocket-version") != "13":
        return False, _refusal("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n")
    key = accept_key(headers["sec-websocket-key"])
    answer = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {key}\r\n\r\n"
    )
    return True, answer.encode()


def _refusal(status: str, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


class _Client:
    """A connection. Frames are written under a lock, since pongs and snapshots come from two threads."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.is_open = False  # after the handshake
        self._lock = threading.Lock()

    def send(self, opcode: int, data: bytes) -> None:
        """Send a frame. Raises OSError for a client that does not read: waiting for it would delay the others."""
        content = frame(opcode, data)
        with self._lock:
            if self.socket.send(content, socket.MSG_DONTWAIT) < len(content):
                raise ConnectionError("the client does not read")

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self.socket.recv(count - len(data))
            if not chunk:
                raise ConnectionError("closed by the client")
            data += chunk
        return data

    def read_head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if len(head) >= MAX_HEAD:
                raise ConnectionError("the request is too long")
            head += self.read(1)
        return head

    def read_frame(self) -> tuple[int, bytes]:
        """Return (opcode, data) of a frame. Raises ProtocolError."""
        first, second = self.read(2)
        opcode, length = first & 0x0F, second & 0x7F
        if first & 0x70 or not second & 0x80:
            raise ProtocolError(1002, "extensions and unmasked frames are not accepted")
        if opcode >= 0x8 and (length > 125 or not first & 0x80):
            raise ProtocolError(1002, "a control frame is too long or fragmented")
        if length == 126:
            (length,) = struct.unpack(">H", self.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.read(8))
        if length > MAX_FRAME:
            raise ProtocolError(1009, "the frame is too long")
        mask = self.read(4)
        data = self.read(length)
        return opcode, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))

    def close(self) -> None:
        # shutdown ends a recv in another thread; close alone does not
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class WebSocketServer:
    """Sends texts to all clients. `greeting` returns the text that a new client gets at once, if any."""

    def __init__(self, port: int, greeting: Callable[[], str]) -> None:
        self._greeting = greeting
        self._clients: set[_Client] = set()
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name="websocket").start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:  # closed
                return
            client = _Client(sock)
            with self._lock:
                is_full = len(self._clients) >= MAX_CLIENTS
                if not is_full:
                    self._clients.add(client)
            if is_full:
                client.close()
            else:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: _Client) -> None:
        try:
            client.socket.settimeout(HANDSHAKE_TIME)
            is_accepted, answer = handshake(client.read_head())
            client.socket.sendall(answer)
            if is_accepted:
                client.socket.settimeout(None)
                client.is_open = True
                self._converse(client)
        except (OSError, struct.error):
            pass
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()

    def _converse(self, client: _Client) -> None:
        """Answer pings and closing until the connection ends; other messages are ignored."""
        if greeting := self._greeting():
            client.send(TEXT, greeting.encode())
        try:
            while True:
                opcode, data = client.read_frame()
                if opcode == PING:
                    client.send(PONG, data)
                elif opcode == CLOSE:
                    client.send(CLOSE, data[:2])
                    return
        except ProtocolError as error:
            client.send(CLOSE, struct.pack(">H", error.code) + str(error).encode())

    def broadcast(self, text: str) -> None:
        """Send a text to all clients; one that does not read is disconnected."""
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            try:
                if client.is_open:
                    client.send(TEXT, text.encode())
            except OSError:
                client.close()

    def close(self) -> None:
        """Close all connections with code 1001 (going away)."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            with contextlib.suppress(OSError):
                if client.is_open:
                    client.send(CLOSE, struct.pack(">H", 1001))
            client.close()
