"""One connection to a site, with the retries and errors that all requests of the simulator share."""

import gzip
import http.client
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from telemetry_client.simulator.progress import SimulatorError

API_PATH = "/api/v1/telemetry/"
ATTEMPTS = 6
TIMEOUT = 60.0  # seconds
MAX_WAIT = 60.0  # seconds before a retry
RETRY_STATUSES = (429, 502, 503, 504)


class SiteConnection:
    """A connection to the API of a site. Raises SimulatorError for a URL that is not one of HTTP or HTTPS."""

    def __init__(
        self,
        url: str,
        key: str,
        sleep: Callable[[float], None] = time.sleep,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SimulatorError(f"site must be a URL such as http://127.0.0.1:8218, not {url!r}")
        self.url = url
        self._is_secure, self._netloc = parts.scheme == "https", parts.netloc
        self._path = parts.path.rstrip("/") + API_PATH
        self._headers = {"Content-Type": "application/json", "X-Api-Key": key}
        self._sleep, self._on_retry = sleep, on_retry
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes, is_ingestion: bool = False) -> tuple[int, dict[str, Any]]:
        """Send JSON; return the status and the document of the answer, {} if it is none.

        Bodies of ingestion are compressed; other routes of a site do not accept that.
        A request is sent again after 429, 502, 503 and 504, for which `Retry-After` counts, and after a broken
        connection. Raises SimulatorError if that does not help, and if the key is not accepted.
        """
        headers = self._headers
        if is_ingestion:
            body, headers = gzip.compress(body, 1, mtime=0), headers | {"Content-Encoding": "gzip"}
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._on_retry()
            try:
                status, answer_headers, answer = self._request(path, body, headers)
            except (OSError, http.client.HTTPException) as error:
                problem, wait = f"cannot be reached ({error})", 2.0**attempt / 4
            else:
                document = _read_json(answer)
                if status in (401, 403):
                    raise SimulatorError(f"{self.url} does not accept the key: {detail_of(document)} ({status})")
                if status not in RETRY_STATUSES:
                    return status, document
                problem = f"answers {status} ({detail_of(document)})"
                wait = _retry_after(answer_headers.get("Retry-After"), 2.0**attempt / 4)
            if attempt < ATTEMPTS - 1:
                self._sleep(wait)
        raise SimulatorError(f"{self.url} {problem} after {ATTEMPTS} attempts")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(self, path: str, data: bytes, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
            self._connection = kind(self._netloc, timeout=TIMEOUT)
        try:
            self._connection.request("POST", self._path + path, data, headers)
            response = self._connection.getresponse()
            return response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise


def unexpected(connection: SiteConnection, status: int, document: dict[str, Any]) -> SimulatorError:
    """Return the error for an answer that no request of the simulator can have."""
    return SimulatorError(f"{connection.url} answers {status}: {detail_of(document)}")


def detail_of(document: dict[str, Any]) -> str:
    detail = document.get("detail")
    return str(detail) if detail else "no answer of a telemetry site; is the URL right?"


def _read_json(answer: bytes) -> dict[str, Any]:
    try:
        document = json.loads(answer)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(value: str | None, default: float) -> float:
    try:
        return min(max(float(value or default), 0.0), MAX_WAIT)
    except ValueError:
        return default
