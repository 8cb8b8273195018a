"""Public answers of pages, cached in the process: a cached answer needs no SQL.

An answer is at most CACHE_SECONDS old when it is sent, and clients and proxies may keep it for MAX_AGE seconds more.
Changes in the same process are visible at once.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.utils import timezone

from dashboard.status_page.models import StatusPage
from dashboard.status_page.snapshot import PageSnapshot, build_snapshot
from rest.etags import names_etag

CACHE_SECONDS = 10.0
MAX_AGE = 30  # seconds
MAX_PAGES = 200  # in the cache, unknown names included
MAX_ANSWERS = 100  # per page
COMPUTED_AT = b"@computed-at@"  # placeholder of the time, which does not change the ETag


class Answer(NamedTuple):
    """Body of an answer, with the placeholder of the time, its type and its ETag."""

    body: bytes
    content_type: str
    etag: str

    @classmethod
    def of(cls, body: bytes, content_type: str) -> "Answer":
        return cls(body, content_type, f'W/"{hashlib.sha256(body).hexdigest()[:32]}"')


class PageKey(NamedTuple):
    """How a page is found: by slug or by host name; with neither, the oldest published page."""

    slug: str = ""
    host_name: str = ""


@dataclass(slots=True)
class CachedPage:
    """A page at one time, and its answers by name."""

    snapshot: PageSnapshot
    answers: dict[str, Answer] = field(default_factory=dict)

    def answer(self, name: str, render: Callable[[PageSnapshot], Answer]) -> Answer:
        found = self.answers.get(name)
        if found is None:
            found = render(self.snapshot)
            if len(self.answers) < MAX_ANSWERS:
                self.answers[name] = found
        return found


@dataclass(slots=True)
class PageCache:
    """The pages of a process by their keys, and the host names of published pages; both with the time they expire at.

    generation  changes when the cache is cleared, so that a page that was read before is not stored after
    """

    pages: OrderedDict[PageKey, tuple[float, CachedPage | None]] = field(default_factory=OrderedDict)
    hosts: tuple[float, frozenset[str]] | None = None
    generation: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: PageKey) -> tuple[float, CachedPage | None] | None:
        """Return the entry of a page if it has not expired."""
        entry = self.pages.get(key)
        return entry if entry is not None and entry[0] > time.monotonic() else None

    def store(self, key: PageKey, page: CachedPage | None) -> None:
        self.pages[key] = (time.monotonic() + CACHE_SECONDS, page)
        self.pages.move_to_end(key)
        while len(self.pages) > MAX_PAGES:
            self.pages.popitem(last=False)

    def clear(self) -> None:
        self.generation += 1
        self.hosts = None
        self.pages.clear()
        self.lock = threading.Lock()  # a forked child may have inherited it locked


_cache = PageCache()


def find_page(key: PageKey) -> CachedPage | None:
    """Return a published page, at most CACHE_SECONDS old; None if there is none."""
    if entry := _cache.get(key):
        return entry[1]
    with _cache.lock:
        if entry := _cache.get(key):
            return entry[1]
        generation = _cache.generation
        page = _find_published(key)
        found = CachedPage(build_snapshot(page, timezone.now())) if page is not None else None
        if generation == _cache.generation:
            _cache.store(key, found)
        return found


def clear_cache() -> None:
    """Forget all cached pages."""
    _cache.clear()


def clear_after_commit() -> None:
    """Forget all cached pages when the current transaction is committed."""
    transaction.on_commit(clear_cache)


def host_names() -> frozenset[str]:
    """Return the host names of published pages, at most CACHE_SECONDS old."""
    hosts = _cache.hosts
    if hosts is None or hosts[0] <= time.monotonic():
        names = StatusPage.objects.filter(published=True).exclude(host_name=None).values_list("host_name", flat=True)
        hosts = (time.monotonic() + CACHE_SECONDS, frozenset(name for name in names if name))
        _cache.hosts = hosts
    return hosts[1]


def _find_published(key: PageKey) -> StatusPage | None:
    pages = StatusPage.objects.filter(published=True)
    if key.slug:
        pages = pages.filter(slug=key.slug)
    elif key.host_name:
        pages = pages.filter(host_name=key.host_name)
    return pages.first()


def respond(request: HttpRequest, page: CachedPage, answer: Answer) -> HttpResponse:
    """Return an answer, or 304 if the client has it."""
    if names_etag(request.headers.get("If-None-Match", ""), answer.etag):
        response: HttpResponse = HttpResponseNotModified()
    else:
        computed_at = page.snapshot.computed_at.astimezone(page.snapshot.zone)
        body = answer.body.replace(COMPUTED_AT, f"{computed_at:%Y-%m-%d %H:%M:%S %Z}".encode())
        response = HttpResponse(body, content_type=answer.content_type)
    response.headers["ETag"] = answer.etag
    response.headers["Cache-Control"] = f"public, max-age={MAX_AGE}"
    return response
