"""The site as a collector sees it: one address that takes batches, over one connection that is kept."""

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

LONGEST_ANSWER = 64 * 1024
TRANSIENT = {408, 429}  # of the 4xx answers, those that may differ next time


class BadAddress(ValueError):
    """Not an address that batches can be sent to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the site said."""

    status: int
    detail: str = ""
    errors: int = 0
    retry_after: float = 0.0

    @property
    def is_taken(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_transient(self) -> bool:
        return self.status >= 500 or self.status in TRANSIENT


class Receiver:
    """Posts batches of one device. Network trouble leaves as OSError or http.client.HTTPException."""

    def __init__(self, url: str, device_id: str, key_file: Path, timeout: float = 10.0) -> None:
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise BadAddress(str(error)) from None
        if parts.scheme not in {"http", "https"} or not self._host:
            raise BadAddress("an address like http://127.0.0.1:8218 is accepted")
        self._path = f"{parts.path.rstrip('/')}/api/v1/telemetry/devices/{quote(device_id, safe='')}/telemetry/batch"
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeout = timeout
        self._key_file = key_file
        self._key = self._read_key()
        self._connection: http.client.HTTPConnection | None = None

    def _read_key(self) -> str:
        key = self._key_file.read_bytes().decode("ascii", "replace").strip()
        if not key.isascii() or not key.isprintable() or not key:
            raise OSError(f"{self._key_file} holds no API key")
        return key

    def post(self, body: bytes) -> Answer:
        """Send a batch. Sending it twice does no harm: the site keeps one value per time and metric."""
        answer = self._post(body)
        if answer.status == 401 and (key := self._read_key()) != self._key:  # the key was made anew meanwhile
            self._key = key
            answer = self._post(body)
        return answer

    def _post(self, body: bytes) -> Answer:
        if self._connection is not None:
            try:
                return self._exchange(self._connection, body)
            except (ConnectionError, http.client.BadStatusLine):
                self.close()  # closed by the other side while idle: a new connection tells more
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

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes) -> Answer:
        connection.request("POST", self._path, body, {"Content-Type": "application/json", "X-Api-Key": self._key})
        response = connection.getresponse()
        content = response.read(LONGEST_ANSWER)
        if not response.isclosed() and response.read(1):  # not an answer of ours: don't read on
            self.close()
        detail, errors = read_answer(content)
        return Answer(response.status, detail, errors, read_retry_after(response.getheader("Retry-After")))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read_answer(content: bytes) -> tuple[str, int]:
    """What was wrong in words, and with how many points."""
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return "", 0
    errors = found.get("errors")
    if not isinstance(errors, list) or not errors:
        return str(found.get("detail", ""))[:200], 0
    first = errors[0] if isinstance(errors[0], dict) else {}
    words = (found.get("detail"), first.get("field"), first.get("detail"))
    return ": ".join(str(word) for word in words if word)[:200], len(errors)


def read_retry_after(header: str | None) -> float:
    """Seconds to wait: the header holds a number or a date."""
    if not header:
        return 0.0
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0
