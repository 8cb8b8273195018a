"""Local HTTP input on the loopback: programs of the device POST points, which are queued before the answer.

POST / with {"metric_name", "value", "timestamp"?}, {"data_points": [such points]}, or {name: value, …, "timestamp"?}.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import math
import threading
from collections.abc import Callable
from typing import Any

from ingest.agent.machine_clock import parse_rfc3339, rfc3339
from ingest.agent.queue import DiskFull, TelemetryQueue

MAX_BODY = 1024 * 1024  # bytes
MAX_POINTS = 1000  # of one request
MAX_NAME_LENGTH = 200
TIMEOUT = 10.0  # seconds


class InvalidInput(ValueError):
    """The body is invalid; the message names the field and the accepted values."""


def snapshots_of(document: Any, node_id: str, now: float) -> list[dict[str, Any]]:
    """Return the snapshots of a body, one for each time. Raises InvalidInput."""
    if not isinstance(document, dict) or not document:
        raise InvalidInput("the body must be a JSON object with a point, data_points, or values by name")
    if "data_points" in document:
        points = document["data_points"]
        if not isinstance(points, list) or not 0 < len(points) <= MAX_POINTS:
            raise InvalidInput(f"data_points: an array of 1 to {MAX_POINTS} points is accepted")
    elif "metric_name" in document:
        points = [document]
    else:
        points = [
            {"timestamp": document.get("timestamp"), "metric_name": name, "value": value}
            for name, value in document.items()
            if name != "timestamp"
        ]
    snapshots: dict[str, dict[str, Any]] = {}
    for index, point in enumerate(points):
        time, name, value = _point(point, index, rfc3339(now))
        snapshots.setdefault(time, {"node_id": node_id, "timestamp": time})[name] = value
    if not snapshots:
        raise InvalidInput("no values: at least one is required")
    return list(snapshots.values())


def _point(point: Any, index: int, now: str) -> tuple[str, str, Any]:
    if not isinstance(point, dict):
        raise InvalidInput(f"data_points[{index}]: an object with metric_name and value is accepted")
    name, value = point.get("metric_name"), point.get("value")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH or name in ("node_id", "timestamp"):
        raise InvalidInput(f"data_points[{index}].metric_name: a text of 1 to {MAX_NAME_LENGTH} characters is accepted")
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    if not is_number and not isinstance(value, (bool, str)):
        raise InvalidInput(f"data_points[{index}].value: a number, boolean or text is accepted")
    time = point.get("timestamp")
    if time is None:
        return now, name, value
    if parse_rfc3339(time) is None:
        raise InvalidInput(f"data_points[{index}].timestamp: a time like {now} is accepted")
    return str(time), name, value


class LocalInput:
    """The HTTP server, in threads."""

    def __init__(self, port: int, queue: TelemetryQueue, node_id: str, time: Callable[[], float]) -> None:
        class Handler(_Handler):
            pass

        Handler.queue, Handler.node_id, Handler.time = queue, node_id, staticmethod(time)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.2,), daemon=True, name="local input").start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT
    queue: TelemetryQueue
    node_id: str
    time: Callable[[], float]

    def do_POST(self) -> None:
        """Queue the points of the body."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            return self._answer(413, f"Content-Length: 0 to {MAX_BODY} bytes are accepted")
        # Pages of other sites can send requests here from a browser, but not of this type without asking first.
        if self.headers.get_content_type() != "application/json" or self.headers.get("Origin"):
            self.close_connection = True
            return self._answer(415, "Content-Type application/json, from programs only, is accepted")
        try:
            document = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            return self._answer(400, "the body is not JSON")
        try:
            snapshots = snapshots_of(document, self.node_id, type(self).time())
            self.queue.enqueue_many(snapshots)
        except DiskFull as error:
            return self._answer(507, str(error))
        except ValueError as error:
            return self._answer(400, str(error))
        return self._answer(202, "")

    def _answer(self, status: int, detail: str) -> None:
        document = {"success": status == 202, **({"detail": detail} if detail else {})}
        body = json.dumps(document).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: each request would be a line."""
