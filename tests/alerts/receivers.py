"""Local web and mail servers that receive notifications."""

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class ReceivedRequest:
    """Received HTTP request; `at` is its monotonic time."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ok(request: ReceivedRequest) -> Reply:
    return 200, {}, b"ok"


@dataclass
class WebhookReceiver:
    """Web server that records its requests and responds as `reply` says."""

    reply: Callable[[ReceivedRequest], Reply] = ok
    requests: list[ReceivedRequest] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def keys(self) -> list[str]:
        return [request.headers["Idempotency-Key"] for request in self.requests]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@contextmanager
def run_receiver(reply: Callable[[ReceivedRequest], Reply] = ok, port: int = 0) -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            request = ReceivedRequest(self.path, dict(self.headers), content)
            receiver.requests.append(request)
            status, headers, body = receiver.reply(request)
            try:
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                return  # the client has closed the connection

        def log_message(self, *args: Any) -> None:
            pass

    with _Server(("127.0.0.1", port), Handler) as server:
        receiver.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield receiver
        server.shutdown()


@contextmanager
def run_dripping_server(head: bytes = b"", interval: float = 0.05) -> Iterator[int]:
    """Run a server that sends `head` and then a byte per interval without end. Yields its port."""

    class Drip(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the client has closed the connection
                self.request.sendall(head)
                while True:
                    self.request.sendall(b"2")
                    time.sleep(interval)

    with _Server(("127.0.0.1", 0), Drip) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@dataclass
class Mailbox:
    """State of the mail server: how it responds, and what it accepted."""

    port: int = 0
    reject: tuple[str, str] | None = None  # (start of the SMTP command, response)
    never_ends: bool = False
    mails: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)


@contextmanager
def run_mail_server() -> Iterator[Mailbox]:
    mailbox = Mailbox()

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the client has closed the connection
                self._serve()

        def _serve(self) -> None:
            self._say("220 ready")
            while line := self.rfile.readline().decode().strip():
                verb = line.split(":")[0].split(" ")[0].upper() if not line.upper().startswith("RCPT") else "RCPT"
                while mailbox.never_ends:
                    self._say("250-and")
                    time.sleep(0.05)
                if mailbox.reject and line.upper().startswith(mailbox.reject[0].upper()):
                    self._say(mailbox.reject[1])
                elif verb == "RCPT":
                    mailbox.recipients.append(line.partition(":")[2].strip("<> "))
                    self._say("250 ok")
                elif verb == "DATA":
                    self._say("354 go on")
                    lines = []
                    while (text := self.rfile.readline().decode()) != ".\r\n":
                        lines.append(text)
                    mailbox.mails.append("".join(lines))
                    self._say("250 accepted")
                elif verb == "QUIT":
                    self._say("221 bye")
                    return
                else:
                    self._say("250 ok")

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        server.daemon_threads = True
        mailbox.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield mailbox
        server.shutdown()
