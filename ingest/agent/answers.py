"""Classification of the site's answers: stored, retry, denied, split or drop."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, NamedTuple

from ingest.agent.http_connection import HttpAnswer

MAX_RETRY_AFTER = 3600.0  # seconds
_TRANSIENT = {408, 425, 429}
_DENIED = {401, 403, 407}
_WRONG_URL = {404, 405}
_SUCCESS_FIELDS = {"success", "ingested_count", "accepted", "results"}


class Action(Enum):
    """The consequence for the snapshots."""

    STORED = "stored"
    RETRY = "retry"
    DENIED = "denied"  # kept and retried slowly: an administrator has to change something
    SPLIT = "split"  # the request is too large
    DROP = "drop"


class Outcome(NamedTuple):
    """The result of one request.

    code      short name of the error: connection_error, timeout, http_<status>, not_the_site; empty for success
    rejected  number of values that the site rejected although it stored the others
    """

    action: Action
    code: str = ""
    detail: str = ""
    retry_after: float = 0.0
    rejected: int = 0


def classify(answer: HttpAnswer) -> Outcome:
    """Classify an answer."""
    document = parse_object(answer.body)
    code, status = f"http_{answer.status}", answer.status
    detail = _detail(document)
    retry_after = parse_retry_after(answer.headers.get("Retry-After"))
    if 200 <= status < 300:
        if document is None or not _SUCCESS_FIELDS & document.keys() or document.get("success") is False:
            return Outcome(Action.RETRY, "not_the_site", f"{status} without the site's JSON", retry_after)
        return Outcome(Action.STORED, rejected=_failed_count(document), detail=detail)
    if status >= 500 or status in _TRANSIENT:
        return Outcome(Action.RETRY, code, detail, retry_after)
    if status in _DENIED or status < 400 or (status in _WRONG_URL and document is None):
        return Outcome(Action.DENIED, code, detail or "check the URL and the API key", retry_after)
    return Outcome(Action.SPLIT if status == 413 else Action.DROP, code, detail)


def parse_object(body: bytes) -> dict[str, Any] | None:
    """Return a JSON object; None for anything else, such as the page of a proxy."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _failed_count(document: dict[str, Any]) -> int:
    count = document.get("failed_count", 0)
    return count if isinstance(count, int) and count > 0 else 0


def _detail(document: dict[str, Any] | None) -> str:
    if document is None:
        return ""
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    texts = (document.get("detail"), first.get("field"), first.get("detail"))
    return ": ".join(str(text) for text in texts if text)[:200]


def parse_retry_after(header: str | None) -> float:
    """Return the seconds to wait, at most an hour; the header is a number or a date."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER)
    try:
        wait = parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0
    return min(max(0.0, wait), MAX_RETRY_AFTER)
