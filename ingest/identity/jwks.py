"""The public keys of an outside issuer, kept while it cannot be reached.

A key that is known is at hand at once, also past its age: then new ones are fetched in the meantime. An unknown one is
waited for, a moment, and fetched at most every so often, whoever asks for what.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt

log = logging.getLogger(__name__)

FRESH_FOR = 300.0  # seconds that fetched keys are taken as they are
RETRY_AFTER = 10.0  # seconds between two fetches, at least
TIMEOUT = 3.0  # seconds for an answer, and as long as anybody waits for one
LARGEST = 256 * 1024  # bytes of a key set

PublicKeys = Mapping[str, Any]  # by `kid`


class _NoRedirects(HTTPRedirectHandler):
    """The address was looked at when it was configured; the next one would not be."""

    def redirect_request(self, *args: Any) -> None:
        return None


_opener = build_opener(_NoRedirects)


def fetch(url: str) -> PublicKeys:
    """The keys for signatures at an address. Raises whatever the way there and the answer give rise to."""
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - the configuration takes https alone
    with _opener.open(request, timeout=TIMEOUT) as answer:
        return read(_within(answer, LARGEST))


def _within(answer: IO[bytes], most: int) -> bytes:
    body = answer.read(most + 1)
    if len(body) > most:
        raise ValueError(f"the key set is larger than {most} bytes")
    return body


def read(body: bytes) -> PublicKeys:
    """The usable keys of a JWK set; those without a `kid`, symmetric ones and those for encryption are left out."""
    listed = json.loads(body).get("keys")
    found = {}
    for one in listed:
        if one.get("kid") and one.get("kty") != "oct" and one.get("use", "sig") == "sig":
            try:
                found[str(one["kid"])] = jwt.PyJWK(one).key
            except jwt.PyJWTError as error:  # an issuer may list kinds of keys that are not known here
                log.info("a key of a key set was left out: %s", error)
    if not found:
        raise ValueError("there is no usable key in it")
    return found


class KeySet:
    """One issuer's keys, in one process. Thread-safe; never to be asked in the event loop, since it may wait."""

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], PublicKeys] = fetch,
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
        """The public key of this name; None where there is none, or none can be had now."""
        if kid in self._keys:
            if self._clock() - self._fetched > FRESH_FOR:
                self._begin()
        else:
            self._begin().wait(TIMEOUT)
        return self._keys.get(kid)

    def _begin(self) -> threading.Event:
        """Fetch anew on a thread of its own, unless that is being done or was done just now."""
        with self._lock:
            if self._done.is_set() and self._clock() - self._tried >= RETRY_AFTER:
                self._tried = self._clock()
                self._done = threading.Event()
                # A daemon, since neither a name server nor a slow issuer may hold up the end of the process.
                threading.Thread(target=self._renew, args=(self._done,), name="key set", daemon=True).start()
            return self._done

    def _renew(self, done: threading.Event) -> None:
        try:
            self._keys = self._fetch(self.url)
            self._fetched = self._clock()
        except Exception as error:  # whatever an issuer answers, or does not, those from before serve on
            log.warning("the keys at %s cannot be fetched, those from before serve on: %s", self.url, error)
        finally:
            done.set()
