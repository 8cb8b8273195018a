"""HTTP client that posts snapshots to the site."""

from __future__ import annotations

import http.client
import json
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ingest.agent import VERSION
from ingest.agent.answers import Action, Outcome, classify, parse_object
from ingest.agent.bulk import bulk_body, is_convertible
from ingest.agent.compression import compress
from ingest.agent.http_connection import HttpAnswer, SiteConnection

log = logging.getLogger(__name__)
SNAPSHOT_PATH = "/api/telemetry/snapshot"
BULK_PATH = "/api/v1/telemetry/bulk"
LIVENESS_PATH = "/livez"
RETRY_BACKOFF = (5.0, 15.0, 60.0)  # seconds
JITTER = 0.2  # share of a pause that is random
MIN_COMPRESSED = 2048  # bytes; smaller bodies fit into one packet or two anyway
_MAX_PAUSE = 86400.0
_USER_AGENT = f"telemetry-agent/{VERSION}"


class TelemetryPoster:
    """Posts snapshots over one connection. `jwt_token` may be an API key; `key_file` is read again on 401."""

    def __init__(
        self,
        backend_url: str,
        jwt_token: str | None = None,
        retry_backoff: Sequence[float] = RETRY_BACKOFF,
        timeout: float = 10,
        *,
        key_file: Path | None = None,
        wait: Callable[[float], object] = time.sleep,
        on_date: Callable[[HttpAnswer], None] | None = None,
    ) -> None:
        if not retry_backoff or any(not 0 <= pause < _MAX_PAUSE for pause in retry_backoff):
            raise ValueError(f"retry_backoff is {retry_backoff}: a list of pauses of 0 to 86400 seconds is accepted")
        self._connection = SiteConnection(backend_url, timeout)
        self._backoff = [float(pause) for pause in retry_backoff]
        self._key_file, self._wait, self._on_date = key_file, wait, on_date
        self._token = jwt_token or (_read_key(key_file) if key_file else None)
        self._random = random.Random()  # noqa: S311 - not for secrets
        self.has_bulk = True  # until the site answers that it has not

    def post_snapshot(self, payload: dict[str, Any]) -> tuple[bool, str | None]:
        """Send a snapshot once; return whether it is stored, and the short name of the error."""
        outcome = self.post_batch([payload])
        return outcome.action is Action.STORED, outcome.code or None

    def post_with_retry(self, payload: dict[str, Any], retry_count: int = 0) -> bool:
        """Send a snapshot, again after each pause of the backoff; return whether it is stored.

        `retry_count` is the number of earlier attempts. False for a rejected snapshot, or when no pause is left.
        """
        while True:
            outcome = self.post_batch([payload])
            if outcome.action is Action.STORED:
                return True
            if outcome.action in (Action.DROP, Action.SPLIT) or retry_count >= len(self._backoff):
                return False
            self._wait(self.pause(retry_count, outcome))
            retry_count += 1

    def pause(self, failures: int, outcome: Outcome) -> float:
        """Return the seconds to wait after a failure; the last pause is repeated."""
        if outcome.action is Action.DENIED:
            failures = len(self._backoff) - 1
        full = self._backoff[min(failures, len(self._backoff) - 1)]
        return max(full * self._random.uniform(1 - JITTER, 1 + JITTER), outcome.retry_after)

    def can_combine(self, payload: dict[str, Any]) -> bool:
        """Return whether a snapshot may be sent together with others."""
        return self.has_bulk and is_convertible(payload)

    def post_batch(self, payloads: Sequence[dict[str, Any]]) -> Outcome:
        """Send one snapshot, or several in a bulk request."""
        path, document = (SNAPSHOT_PATH, payloads[0]) if len(payloads) == 1 else (BULK_PATH, bulk_body(payloads))
        body = json.dumps(document, separators=(",", ":")).encode()
        outcome = self._post(path, body)
        if outcome.code == "http_401" and self._has_new_key():
            outcome = self._post(path, body)
        if len(payloads) > 1 and outcome.code in ("http_404", "http_405"):
            log.info("the site has no bulk endpoint (%s): snapshots are sent one by one", outcome.code)
            self.has_bulk = False
            return outcome._replace(action=Action.SPLIT)
        return outcome

    def _post(self, path: str, body: bytes) -> Outcome:
        headers = {"Content-Type": "application/json", **self._headers()}
        if len(body) >= MIN_COMPRESSED:
            headers["Content-Encoding"], body = compress(body)
        try:
            answer = self._connection.request("POST", path, body, headers)
        except socket.timeout as error:
            return Outcome(Action.RETRY, "timeout", str(error))
        except ssl.SSLCertVerificationError as error:
            return Outcome(Action.DENIED, "certificate_error", error.verify_message)
        except (OSError, http.client.HTTPException) as error:
            return Outcome(Action.RETRY, "connection_error", str(error) or type(error).__name__)
        self._learn(answer)
        return classify(answer)

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": _USER_AGENT}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def fetch(self, path: str) -> HttpAnswer:
        """Return the answer to a GET. Raises OSError and http.client.HTTPException."""
        return self._connection.request("GET", path, None, self._headers())

    def fetch_date(self) -> bool:
        """Request the site's time before anything is sent, since the clock may be wrong; return whether it answers."""
        try:
            self._learn(self._connection.request("GET", LIVENESS_PATH, None, {"User-Agent": _USER_AGENT}))
        except (OSError, http.client.HTTPException):
            return False
        return True

    def _learn(self, answer: HttpAnswer) -> None:
        if self._on_date is not None and parse_object(answer.body) is not None:  # not of a proxy with another clock
            self._on_date(answer)

    def _has_new_key(self) -> bool:
        if self._key_file is None:
            return False
        try:
            token = _read_key(self._key_file)
        except OSError:
            return False
        if token == self._token:
            return False
        self._token = token
        return True

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _read_key(file: Path) -> str:
    key = file.read_bytes().decode("ascii", "replace").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise OSError(f"{file} contains no API key")
    return key
