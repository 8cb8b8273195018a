"""A small client of the site's REST API: credentials, timeouts, Retry-After, and one error per kind of failure."""

import json
import ssl
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3

from telemetry_client import VERSION
from telemetry_client.errors import NotTheSite, Unreachable, refusal
from telemetry_client.profiles import Profile, find_profile

API = "/api/v1/telemetry/"
TIMEOUT = 30.0  # seconds
PATIENCE = 60.0  # seconds to wait in all where the site asks for a later request
PAGE_SIZE = 500
BUSY = (429, 503)
MAX_CONNECTIONS = 8
MAX_RESPONSE = 256 << 20  # bytes of JSON


def segment(name: str) -> str:
    """Return a name as part of a path."""
    return quote(name, safe="")


class Site:
    """A telemetry site at a URL, called with an API key or with the access token that `token` returns.

    Threads may share an instance.
    """

    def __init__(
        self,
        url: str,
        api_key: str = "",
        *,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        token: Callable[[], str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.profile = Profile(url, api_key)
        self.patience = patience
        self.timeout = timeout
        self._sleep = sleep
        self._token = token
        self._pool = _pool(self.profile.url, timeout)

    @classmethod
    def from_profile(cls, name: str = "", **options: Any) -> "Site":
        """Return the site of a profile or of the environment. Raises NoProfile."""
        profile = find_profile(name)
        if profile.user:
            from telemetry_client.sign_in import UserTokens

            options["token"] = UserTokens(profile, options.get("timeout", TIMEOUT))
        return cls(profile.url, profile.api_key, **options)

    @property
    def url(self) -> str:
        return self.profile.url

    @property
    def websocket_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        headers = {"User-Agent": f"telemetry-client/{VERSION}", "Accept": "application/json"}
        return headers | ({"X-Api-Key": credential} if (credential := self.credential()) else {})

    def credential(self) -> str:
        """Return the API key, or a valid access token; the site takes both in the same header."""
        return self.profile.api_key if self._token is None else self._token()

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON of a GET request. Paths without a slash in front are below the API."""
        return self.request("GET", path, parameters=parameters)

    def post(self, path: str, body: Any = None, **parameters: Any) -> Any:
        return self.request("POST", path, body if body is not None else {}, parameters)

    def put(self, path: str, body: Any = None) -> Any:
        return self.request("PUT", path, body if body is not None else {})

    def patch(self, path: str, body: Any) -> Any:
        return self.request("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self.request("DELETE", path)

    def request(self, method: str, path: str, body: Any = None, parameters: Mapping[str, Any] | None = None) -> Any:
        """Send a request and return the JSON of its response. Raises ClientError."""
        response = self._send(method, path, body, parameters or {})
        return _json(response, self._address(path, {}), self._read(response))

    def pages(self, path: str, rows: str, limit: int | None = None, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list, page by page; `rows` is the field that has them."""
        cursor, left = None, limit
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(PAGE_SIZE, left)
            page = self.get(path, limit=size, cursor=cursor, **parameters)
            if not isinstance(page, dict) or not isinstance(page.get(rows), list):
                raise NotTheSite(f"{self.url} does not answer like a telemetry site: {rows} are missing")
            yield from page[rows]
            cursor = page.get("next_cursor")
            if not cursor:
                return
            if left is not None:
                left -= len(page[rows])

    def download(self, path: str, **parameters: Any) -> Iterator[bytes]:
        """Yield the parts of a file. Raises Unreachable if it breaks off."""
        response = self._send("GET", path, None, parameters)
        try:
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise _not_the_site(self._address(path, {}), response)
            yield from response.stream(1 << 16)
        except urllib3.exceptions.HTTPError:
            raise Unreachable(f"the download from {self.url} broke off; the file is incomplete") from None
        finally:
            response.close()

    def _send(self, method: str, path: str, body: Any, parameters: Mapping[str, Any]) -> urllib3.BaseHTTPResponse:
        """Send a request, again when a busy site asks for that; the body is not read yet. Raises ClientError."""
        address = self._address(path, parameters)
        headers = self.headers
        data = None
        if body is not None:
            data = json.dumps(body, allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        if method == "POST" and "/" in path and path.startswith("alerts/") and path != "alerts/backtest":
            headers["Idempotency-Key"] = str(uuid.uuid4())  # a repeated request must not create a second object
        left = self.patience
        while True:
            response = self._call(method, address, data, headers)
            pause = _retry_after(response)
            if response.status not in BUSY or pause is None or pause > left:
                break
            self._read(response)
            self._sleep(pause)
            left -= max(pause, 0.1)
        if 300 <= response.status < 400:
            response.close()
            target = response.headers.get("Location", "another address")
            raise NotTheSite(f"{self.url} redirects to {target}: log in with the URL of the site itself")
        if response.status >= 400:
            problem = _json(response, address, self._read(response))
            raise refusal(response.status, problem if isinstance(problem, dict) else {})
        return response

    def _call(
        self, method: str, address: str, data: bytes | None, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(
                method, address, body=data, headers=headers, redirect=False, retries=False, preload_content=False
            )
        except (urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            raise Unreachable(f"{self.url} cannot be reached: {reason(error)}") from None

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """Return the body of a response. Raises Unreachable if it is cut off, too slow or too large."""
        deadline, parts, size = time.monotonic() + self.timeout, [], 0
        try:
            while part := response.read1(1 << 16):
                parts.append(part)
                size += len(part)
                if time.monotonic() > deadline or size > MAX_RESPONSE:
                    limit = f"{self.timeout:g} s" if size <= MAX_RESPONSE else f"{MAX_RESPONSE >> 20} MiB"
                    response.close()
                    raise Unreachable(f"the response of {self.url} exceeds {limit}")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"the response of {self.url} is cut off: {reason(error)}") from None
        response.release_conn()
        return b"".join(parts)

    def _address(self, path: str, parameters: Mapping[str, Any]) -> str:
        full = path if path.startswith("/") else API + path
        query = urlencode({k: _text(v) for k, v in parameters.items() if v is not None}, doseq=True)
        return f"{self.url}{full}{'?' if query else ''}{query}"


def _pool(url: str, timeout: float) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=min(timeout, 10), read=timeout),
        "maxsize": MAX_CONNECTIONS,
        "block": False,
    }
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return [_text(part) for part in value] if isinstance(value, list | tuple) else value


def _json(response: urllib3.BaseHTTPResponse, address: str, data: bytes) -> Any:
    if response.status == 204 or (not data and response.status < 300):
        return None
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    try:
        if kind == "application/json" or kind.endswith("+json"):
            return json.loads(data)
    except ValueError:
        raise Unreachable(f"the response of {address.partition('?')[0]} is cut off") from None
    raise _not_the_site(address, response)


def _not_the_site(address: str, response: urllib3.BaseHTTPResponse) -> NotTheSite:
    kind = response.headers.get("Content-Type", "no content type").partition(";")[0]
    return NotTheSite(
        f"{address.partition('?')[0]} is not a telemetry site: it answers {response.status} with {kind} instead of JSON"
    )


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    """Return the seconds after which the site accepts the request again, None if it does not say."""
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


def reason(error: BaseException) -> str:
    """Return why a connection failed, in a few words."""
    causes = [error, error.__cause__, error.__context__, *getattr(error, "args", ())]
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not valid: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason or cause}"
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "the host name is unknown"
    timeouts = (urllib3.exceptions.ConnectTimeoutError, urllib3.exceptions.ReadTimeoutError, TimeoutError)
    if isinstance(error, timeouts) and not isinstance(error, urllib3.exceptions.NewConnectionError):
        return "no response in time"
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__
