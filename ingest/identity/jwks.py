"""The public keys of an external issuer, from its JWKS, cached also while the issuer cannot be reached.

A cached key is returned at once; if it is outdated, the set is fetched in the background. An unknown key waits for a
fetch, and the frequency of fetches is limited. PyJWT's PyJWKClient does not have these
properties: it blocks all callers while it fetches and rejects tokens once an outdated set cannot be renewed.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt

log = logging.getLogger(__name__)

MAX_KEY_AGE = 300.0  # seconds until keys are fetched again
MIN_FETCH_INTERVAL = 10.0  # seconds between two fetches
FETCH_TIMEOUT = 3.0  # seconds, of a fetch and of a caller that waits for it
MAX_KEY_SET_SIZE = 256 * 1024  # bytes

PublicKeys = Mapping[str, Any]  # by `kid`


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect, since only the configured URL has been checked."""

    def redirect_request(self, *args: Any) -> None:
        return None


_opener = build_opener(_NoRedirects)


def fetch_keys(url: str) -> PublicKeys:
    """Fetch the signature keys of a JWKS. Raises any error of the network or the response."""
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - the configuration accepts https only
    with _opener.open(request, timeout=FETCH_TIMEOUT) as response:
        return parse_keys(_read_limited(response, MAX_KEY_SET_SIZE))


def _read_limited(response: IO[bytes], max_size: int) -> bytes:
    body = response.read(max_size + 1)
    if len(body) > max_size:
        raise ValueError(f"the key set is too large: at most {max_size} bytes are accepted")
    return body


def parse_keys(body: bytes) -> PublicKeys:
    """Return the asymmetric signature keys of a JWKS that have a `kid`. Raises ValueError and jwt.PyJWTError."""
    keys = {
        str(jwk.key_id): jwk.key
        for jwk in jwt.PyJWKSet.from_json(body.decode())
        if jwk.key_id and jwk.key_type != "oct" and jwk.public_key_use in (None, "sig")
    }
    if not keys:
        raise ValueError("the key set has no usable key")
    return keys


class KeySet:
    """One issuer's keys in one process. Thread-safe; it may wait, so it must not be called in the event loop."""

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], PublicKeys] = fetch_keys,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self._fetch, self._clock = fetch, clock
        self._keys: PublicKeys = {}
        self._fetched = self._tried = float("-inf")
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._done.set()

    def key(self, kid: str) -> Any:
        """Return the public key with this id, or None."""
        key = self._keys.get(kid)
        if key is None:
            self._start_fetch().wait(FETCH_TIMEOUT)
            return self._keys.get(kid)
        if self._clock() - self._fetched > MAX_KEY_AGE:
            self._start_fetch()
        return key

    def _start_fetch(self) -> threading.Event:
        """Fetch in a thread of its own, unless a fetch is running or was started within the minimum interval."""
        with self._lock:
            if self._done.is_set() and self._clock() - self._tried >= MIN_FETCH_INTERVAL:
                self._tried = self._clock()
                self._done = threading.Event()
                # A daemon, so that a slow name server or issuer does not delay the end of the process.
                threading.Thread(target=self._renew, args=(self._done,), name="key set", daemon=True).start()
            return self._done

    def _renew(self, done: threading.Event) -> None:
        try:
            self._keys = self._fetch(self.url)
            self._fetched = self._clock()
        except Exception as error:  # an issuer may return anything; the cached keys stay valid
            log.warning("the keys at %s cannot be fetched, cached keys stay valid: %s", self.url, error)
        finally:
            done.set()
