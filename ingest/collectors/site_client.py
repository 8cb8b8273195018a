"""HTTP client of a collector: posts batches to one endpoint over a persistent connection."""

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

MAX_RESPONSE_SIZE = 64 * 1024
TRANSIENT = {408, 429}  # the 4xx statuses for which a retry may succeed


class InvalidUrl(ValueError):
    """The URL cannot be used."""


@dataclass(frozen=True, slots=True)
class SiteResponse:
    """A response of the site."""

    status: int
    detail: str = ""
    errors: int = 0
    retry_after: float = 0.0

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_transient(self) -> bool:
        return self.status >= 500 or self.status in TRANSIENT


class SiteClient:
    """Posts batches of one device. Raises OSError and http.client.HTTPException for network errors."""

    def __init__(self, url: str, device_id: str, key_file: Path, timeout: float = 10.0) -> None:
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise InvalidUrl(str(error)) from None
        if parts.scheme not in {"http", "https"} or not self._host:
            raise InvalidUrl("a URL like http://127.0.0.1:8218 is accepted")
        self._path = f"{parts.path.rstrip('/')}/api/v1/telemetry/devices/{quote(device_id, safe='')}/telemetry/batch"
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeout = timeout
        self._key_file = key_file
        self._key = self._read_key()
        self._connection: http.client.HTTPConnection | None = None

    def _read_key(self) -> str:
        key = self._key_file.read_bytes().decode("ascii", "replace").strip()
        if not key.isascii() or not key.isprintable() or not key:
            raise OSError(f"{self._key_file} contains no API key")
        return key

    def post(self, body: bytes) -> SiteResponse:
        """Send a batch. Sending it twice is harmless: the site stores one value per time and metric."""
        response = self._post(body)
        if response.status == 401 and (key := self._read_key()) != self._key:  # the key has been replaced
            self._key = key
            response = self._post(body)
        return response

    def _post(self, body: bytes) -> SiteResponse:
        if self._connection is not None:
            try:
                return self._exchange(self._connection, body)
            except (ConnectionError, http.client.BadStatusLine):
                self.close()  # closed by the server while idle; a new connection shows whether it is available
        connection = self._connect()
        try:
            return self._exchange(connection, body)
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        else:
            self._connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=self._tls
            )
        return self._connection

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes) -> SiteResponse:
        connection.request("POST", self._path, body, {"Content-Type": "application/json", "X-Api-Key": self._key})
        response = connection.getresponse()
        content = response.read(MAX_RESPONSE_SIZE)
        if not response.isclosed() and response.read(1):  # not a response of the site: do not read the rest
            self.close()
        detail, errors = parse_response(content)
        return SiteResponse(response.status, detail, errors, parse_retry_after(response.getheader("Retry-After")))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def parse_response(content: bytes) -> tuple[str, int]:
    """Return the error message and the number of rejected points."""
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return "", 0
    errors = document.get("errors")
    if not isinstance(errors, list) or not errors:
        return str(document.get("detail", ""))[:200], 0
    first = errors[0] if isinstance(errors[0], dict) else {}
    texts = (document.get("detail"), first.get("field"), first.get("detail"))
    return ": ".join(str(text) for text in texts if text)[:200], len(errors)


def parse_retry_after(header: str | None) -> float:
    """Return the seconds to wait; the header is a number or a date."""
    if not header:
        return 0.0
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0
