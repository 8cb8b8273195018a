"""Consul agents for tests: a small HTTP server that speaks the calls of the site, and the real `consul` on the PATH."""

import http.client
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.telemetry_site.site_process import free_port, wait_until

GARBAGE = b"\x00\xff this is not HTTP\r\n\r\n"


class SmallAgent:
    """A Consul agent that registers, deregisters and reads services, and runs their health checks when asked.

    `behaviour` is `normal`, `failing` (500 to everything), `garbage` (no HTTP), `endless` (bytes without a line end) or
    `silent` (no answer).
    """

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.registrations: list[str] = []
        self.tokens: set[str | None] = set()
        self.reads = 0
        self.behaviour = "normal"
        self.closing = threading.Event()
        self.port = free_port()
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        agent = self
        self.closing.clear()

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                if agent.behaviour == "silent":
                    agent.closing.wait(60)
                    self.close_connection = True
                elif agent.behaviour == "garbage":
                    self.rfile.readline()
                    self.wfile.write(GARBAGE)
                    self.close_connection = True
                elif agent.behaviour == "endless":
                    with suppress(OSError):
                        while not agent.closing.wait(0.05):
                            self.wfile.write(b"H")
                    self.close_connection = True
                else:
                    super().handle_one_request()

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = urlsplit(self.path).path
                agent.tokens.add(self.headers.get("X-Consul-Token"))
                if agent.behaviour == "failing":
                    self.answer(500)
                elif path == "/v1/agent/service/register":
                    service = json.loads(body)
                    agent.services[service["ID"]] = service
                    agent.registrations.append(service["ID"])
                    self.answer(200)
                elif path.startswith("/v1/agent/service/deregister/"):
                    known = agent.services.pop(unquote(path.rpartition("/")[2]), None)
                    self.answer(200 if known else 404)
                else:
                    self.answer(405)

            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                name = unquote(path.rpartition("/")[2])
                if agent.behaviour == "failing":
                    self.answer(500)
                elif path.startswith("/v1/agent/service/"):
                    agent.reads += 1
                    service = agent.services.get(name)
                    self.answer(200 if service else 404, service)
                elif path.startswith("/v1/health/service/"):
                    found = [service for service in list(agent.services.values()) if service["Name"] == name]
                    self.answer(200, [_health(service) for service in found])
                else:
                    self.answer(404)

            def answer(self, status: int, body: Any = None) -> None:
                content = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def healthy_services(self) -> dict[str, dict[str, Any]]:
        return read_healthy_services(self.port)


def _health(service: dict[str, Any]) -> dict[str, Any]:
    """Run the health check of a service as Consul does, and return its entry of /v1/health/service."""
    check = service["Check"]
    target = urlsplit(check["HTTP"])
    connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=5)
    try:
        connection.request("GET", target.path, headers={name: values[0] for name, values in check["Header"].items()})
        status = "passing" if connection.getresponse().status in range(200, 300) else "critical"
    except (OSError, http.client.HTTPException):
        status = "critical"
    finally:
        connection.close()
    return {"Service": service, "Checks": [{"CheckID": check["CheckID"], "Status": status}]}


class RealAgent:
    """The `consul` on the PATH in development mode, which keeps everything in memory."""

    @staticmethod
    def is_installed() -> bool:
        return shutil.which("consul") is not None

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        settings = folder / "consul.json"
        ports = {"http": self.port, "dns": -1, "grpc": -1, "grpc_tls": -1, "server": free_port()}
        ports |= {"serf_lan": free_port(), "serf_wan": -1}
        settings.write_text(json.dumps({"ports": ports, "bind_addr": "127.0.0.1"}))
        self.process = subprocess.Popen(
            ["consul", "agent", "-dev", f"-config-file={settings}"], stdout=subprocess.DEVNULL, start_new_session=True
        )
        wait_until(self._has_leader, 30, "consul answers")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _has_leader(self) -> bool:
        assert self.process.poll() is None, "consul ended"
        try:
            return bool(call(self.port, "GET", "/v1/status/leader"))
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def healthy_services(self) -> dict[str, dict[str, Any]]:
        return read_healthy_services(self.port)


@contextmanager
def running(agent: Any) -> Iterator[Any]:
    try:
        yield agent
    finally:
        agent.stop()


def call(port: int, method: str, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        return json.loads(connection.getresponse().read() or b"null")
    finally:
        connection.close()


def read_healthy_services(port: int) -> dict[str, dict[str, Any]]:
    """Return the instances of the site whose checks all pass, by ID."""
    entries = call(port, "GET", "/v1/health/service/telemetry")
    return {
        entry["Service"]["ID"]: entry["Service"]
        for entry in entries
        if all(check["Status"] == "passing" for check in entry["Checks"])
    }
