"""Idempotency-Key: a POST that is repeated because its response was lost is executed once.

The effects of a request and its stored response are committed together, also when the process is killed. Error
responses are not stored, so a retry is executed again. Not for views whose responses contain secrets, because responses
are stored in the database.
"""

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from rest_framework import status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from rest.errors import InvalidField
from rest.permissions import caller
from rest.renderers import JSONRenderer

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class StillRunning(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = f"a request with this {HEADER} is running: try again"


def idempotent(post: Callable[..., Response]) -> Callable[..., HttpResponseBase]:
    """Execute a POST once within 24 hours per Idempotency-Key; its effects must be in Django's database."""

    @functools.wraps(post)
    def wrapper(view: Any, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        key = request.headers.get(HEADER)
        if key is None:
            return post(view, request, *args, **kwargs)
        if not _KEY.fullmatch(key):
            raise ValidationError({HEADER: "1 to 255 printable ASCII characters are accepted"})
        name, digest = caller(request).name, _digest(request)
        stored_responses = apps.get_model(settings.IDEMPOTENT_ANSWER_MODEL)
        with transaction.atomic():
            _lock(name, key)
            stored = stored_responses.objects.filter(
                caller=name, key=key, at__gt=timezone.now() - stored_responses.RETENTION
            ).first()
            if stored is not None:
                return _replay(stored, digest)
            response = post(view, request, *args, **kwargs)
            if status.is_success(response.status_code):
                _store(stored_responses, name, key, digest, response)
            else:
                transaction.set_rollback(True)
            return response

    wrapper.idempotent = True  # type: ignore[attr-defined]  # read by rest.openapi
    return wrapper


def _lock(name: str, key: str) -> None:
    """Lock this key of this caller until the transaction ends. Raises StillRunning if it is locked."""
    number = int.from_bytes(hashlib.sha256(f"{name}\n{key}".encode()).digest()[:8], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (number,))
        if not cursor.fetchone()[0]:
            raise StillRunning


def _digest(request: Request) -> bytes:
    """Return a digest of a request, independent of the order of JSON names, to detect reuse of a key."""
    content = (request.method, request.get_full_path(), request.data)
    return hashlib.sha256(msgspec.json.encode(content, enc_hook=_encode, order="sorted")).digest()


def _encode(value: Any) -> str:
    """Return the digest of an uploaded file, or the text of any other value."""
    if not hasattr(value, "chunks"):
        return str(value)
    digest = hashlib.sha256()
    for chunk in value.chunks():
        digest.update(chunk)
    value.seek(0)
    return digest.hexdigest()


def _store(stored_responses: Any, name: str, key: str, digest: bytes, response: Response) -> None:
    values = {
        "digest": digest,
        "status": response.status_code,
        "headers": dict(response.headers),
        "body": JSONRenderer().render(response.data),
        "at": timezone.now(),
    }
    stored_responses.objects.update_or_create(values, caller=name, key=key)


def _replay(stored: Any, digest: bytes) -> HttpResponse:
    if bytes(stored.digest) != digest:
        raise InvalidField(HEADER, "was used for another request: use a new key")
    headers = stored.headers | {"Content-Type": "application/json", "Idempotent-Replayed": "true"}
    return HttpResponse(bytes(stored.body), status=stored.status, headers=headers)
