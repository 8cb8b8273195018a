"""HTTP requests of collectors: through the SSRF guard, with a limit of bytes, until the deadline of the collection."""

import base64
import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ingest.collection.kinds.kind import CollectionJob
from ingest.collectors.reading import CollectFailed
from rest.outgoing.deadline import Deadline
from rest.outgoing.http_connection import PinnedConnection, parse_url, port_of

MAX_BODY_BYTES = 8 * 2**20
USER_AGENT = "Telemetry-Collector/1"
AUTHENTICATION = {
    "bearer_token": "Token of bearer authentication.",
    "password": "Password of HTTP basic authentication.",
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer with its whole body; `elapsed_ms` from the begin of the connection to the end of the body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    elapsed_ms: float


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix domain socket."""

    def __init__(self, path: str, deadline: Deadline) -> None:
        super().__init__("localhost")
        self.path = path
        self.deadline = deadline

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.deadline.watch(self.sock)
        self.sock.settimeout(self.deadline.remaining + 1)  # the deadline cuts the connection before
        try:
            self.sock.connect(self.path)
        except PermissionError as error:
            raise PermissionError(error.errno, f"the account of the worker may not use {self.path}") from None
        except ConnectionRefusedError as error:
            raise ConnectionRefusedError(error.errno, f"no program listens on {self.path}") from None


def fetch(job: CollectionJob, url: str, *, method: str = "GET", accept: str = "*/*", verify: bool = True) -> Fetched:
    """Request a URL. Raises CollectFailed."""
    parts = parse_url(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = PinnedConnection(parts, job.resolve(parts.hostname or "", port_of(parts)), job.deadline, verify)
    try:
        return request(job, connection, path, method=method, headers={"Accept": accept} | _authorization(job))
    finally:
        connection.close()


def request(
    job: CollectionJob,
    connection: http.client.HTTPConnection,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> Fetched:
    """Send one request on a connection and read the whole answer. Raises CollectFailed."""
    began = job.elapsed_ms
    try:
        connection.request(method, path, headers={"User-Agent": USER_AGENT} | dict(headers or {}))
        response = connection.getresponse()
        body = response.read(MAX_BODY_BYTES + 1)
    except http.client.IncompleteRead as cut:
        raise _failure(job, f"the answer was cut off after {len(cut.partial):,} bytes") from None
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        # On expiry the socket is shut down in another thread, which raises various errors here.
        raise _failure(job, _describe(error)) from None
    if job.deadline.expired:  # an answer without a length looks complete although it was cut off
        raise _failure(job, "")
    if len(body) > MAX_BODY_BYTES:
        raise CollectFailed(f"the answer is longer than {MAX_BODY_BYTES:,} bytes")
    if response.length:  # bytes of Content-Length that did not come
        raise CollectFailed(f"the answer was cut off after {len(body):,} bytes")
    return Fetched(response.status, response.headers, body, job.elapsed_ms - began)


def fetch_json(job: CollectionJob, url: str, *, verify: bool = True) -> tuple[Any, Fetched]:
    """Request a JSON document that is answered with 200. Raises CollectFailed."""
    fetched = fetch(job, url, accept="application/json", verify=verify)
    require_ok(fetched)
    return parse_json(fetched), fetched


def require_ok(fetched: Fetched) -> None:
    """Raise CollectFailed for any status but 200."""
    if 300 <= fetched.status < 400:
        raise CollectFailed(f"HTTP {fetched.status}: redirects are not followed")
    if fetched.status != 200:
        raise CollectFailed(f"HTTP {fetched.status} instead of 200")


def parse_json(fetched: Fetched) -> Any:
    """Return the document in a body. Raises CollectFailed."""
    try:
        return msgspec.json.decode(fetched.body)
    except (msgspec.DecodeError, RecursionError) as error:
        kind = fetched.headers.get("Content-Type", "no Content-Type")
        raise CollectFailed(f"the answer is not JSON ({kind:.80}): {error}") from None


def _authorization(job: CollectionJob) -> dict[str, str]:
    if token := job.secrets.get("bearer_token"):
        return {"Authorization": f"Bearer {token}"}
    if password := job.secrets.get("password"):
        pair = f"{job.configuration.get('username', '')}:{password}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _failure(job: CollectionJob, detail: str) -> CollectFailed:
    late = f"no complete answer within {job.deadline.seconds:g} s"
    return CollectFailed(late if job.deadline.expired else detail)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
