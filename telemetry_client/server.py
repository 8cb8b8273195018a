"""`RealtimeTelemetryServer`: the ports of the alerting document on this machine, in front of a site.

Clients of these ports need no API key: each request is sent to the site with the key of the processor. The servers
therefore listen on 127.0.0.1 and refuse pages of other origins and host names.
"""

import contextlib
import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from telemetry_client.config import TelemetryConfig
from telemetry_client.errors import ClientError, Refused

if TYPE_CHECKING:
    from websockets.sync.server import Server, ServerConnection

    from telemetry_client.processor import TelemetryProcessor

HOST = "127.0.0.1"
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
GET_PATHS = ("/dashboard", "/alerts", "/patterns", "/health")
MAX_BODY = 5 << 20  # bytes


def is_local(origin: str) -> bool:
    """Return whether a host name or origin is of this machine."""
    try:
        return urlsplit(origin if "//" in origin else f"//{origin}").hostname in LOCAL_NAMES
    except ValueError:
        return False


class RealtimeTelemetryServer:
    """Serves WebSocket, HTTP and dashboard ports of this machine for the site of a processor."""

    def __init__(self, processor: "TelemetryProcessor", config: TelemetryConfig | None = None) -> None:
        self.processor = processor
        self.config = config or processor.config
        self._websocket: Server | None = None
        self._http: list[ThreadingHTTPServer] = []
        self.websocket_port = self.http_port = self.dashboard_port = 0

    def __enter__(self) -> "RealtimeTelemetryServer":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the enabled servers in threads. Raises OSError if a port is in use."""
        try:
            if self.config.enable_websocket:
                self.start_websocket_server()
            if self.config.enable_http:
                self.start_http_server()
            if self.config.enable_dashboard:
                self.dashboard_port = self._serve_http(self.config.dashboard_port, _DashboardHandler)
        except OSError:
            self.stop()
            raise

    def start_websocket_server(self) -> None:
        """Relay connections of the WebSocket port to the live stream of the site."""
        from websockets.sync.server import serve

        self._websocket = serve(self._relay, HOST, self.config.websocket_port, process_request=_check_origin)
        self.websocket_port = self._websocket.socket.getsockname()[1]
        threading.Thread(target=self._websocket.serve_forever, name="telemetry-websocket", daemon=True).start()

    def start_http_server(self) -> None:
        """Serve /telemetry, /dashboard, /alerts, /patterns and /health on the HTTP port."""
        self.http_port = self._serve_http(self.config.http_port, _ApiHandler)

    def stop(self) -> None:
        """Close all ports."""
        if self._websocket is not None:
            self._websocket.shutdown()
            self._websocket = None
        while self._http:
            server = self._http.pop()
            server.shutdown()
            server.server_close()

    def _serve_http(self, port: int, handler: type["_Handler"]) -> int:
        server = ThreadingHTTPServer((HOST, port), type("Handler", (handler,), {"processor": self.processor}))
        self._http.append(server)
        threading.Thread(target=server.serve_forever, name="telemetry-http", daemon=True).start()
        return int(server.server_address[1])

    def _relay(self, client: "ServerConnection") -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        site = self.processor.site
        with contextlib.ExitStack() as stack:
            try:
                connection = connect(f"{site.websocket_url}/ws/live", additional_headers=site.headers, max_size=None)
                upstream = stack.enter_context(connection)
            except (WebSocketException, OSError):
                client.close(1011, "the site cannot be reached")
                return
            forward = threading.Thread(target=_forward, args=(upstream, client), daemon=True)
            forward.start()
            _forward(client, upstream)


def _forward(source: Any, target: Any) -> None:
    """Send every message of one connection to the other; when one ends, close the other."""
    from websockets.exceptions import ConnectionClosed

    code, text = 1000, ""
    try:
        for message in source:
            target.send(message)
    except ConnectionClosed:
        pass
    with contextlib.suppress(ConnectionClosed):
        if 1000 <= (source.close_code or 1000) < 5000 and source.close_code not in (1005, 1006, 1015):
            code, text = source.close_code or 1000, source.close_reason or ""
        target.close(code, text)


def _check_origin(connection: "ServerConnection", request: Any) -> Any:
    origin = request.headers.get("Origin")
    if not is_local(request.headers.get("Host", "")) or (origin and not is_local(origin)):
        return connection.respond(403, "only pages of this machine may connect\n")
    return None


class _Handler(BaseHTTPRequestHandler):
    processor: "TelemetryProcessor"
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *arguments: Any) -> None:
        """Write no access log: the site has one."""

    def allowed(self) -> bool:
        origin = self.headers.get("Origin")
        if is_local(self.headers.get("Host", "")) and (not origin or is_local(origin)):
            return True
        self.answer(403, {"detail": "only clients of this machine may connect"})
        return False

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _ApiHandler(_Handler):
    def do_GET(self) -> None:
        if not self.allowed():
            return
        parts = urlsplit(self.path)
        if parts.path not in GET_PATHS:
            self.answer(404, {"detail": f"paths are {', '.join(GET_PATHS)} and POST /telemetry"})
            return
        self._pass_on("GET", parts.path, None, dict(parse_qsl(parts.query)))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            self.answer(413, {"detail": f"a body of at most {MAX_BODY} bytes with Content-Length is accepted"})
            return
        data = self.rfile.read(int(length))
        if not self.allowed():
            return
        if self.path != "/telemetry" or self.headers.get_content_type() != "application/json":
            self.answer(404, {"detail": "POST /telemetry with Content-Type application/json is accepted"})
            return
        try:
            body = json.loads(data)
        except ValueError:
            self.answer(400, {"detail": "the body is not valid JSON"})
            return
        self._pass_on("POST", "/telemetry", body, {})

    def _pass_on(self, method: str, path: str, body: Any, parameters: dict[str, Any]) -> None:
        try:
            answer = self.processor.site.request(method, path, body, parameters)
        except Refused as error:
            self.answer(error.status, error.problem)
        except (ClientError, ValueError) as error:
            self.answer(502, {"detail": str(error)})
        else:
            if path == "/health":
                now = datetime.now(UTC).isoformat()
                answer = {**answer, "timestamp": now, "processor_running": self.processor.running}
            self.answer(200, answer)


class _DashboardHandler(_Handler):
    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"{self.processor.site.url}/")
        self.send_header("Content-Length", "0")
        self.end_headers()
