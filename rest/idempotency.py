"""Idempotency-Key: a POST that is sent again, because its answer was lost, does what it does once.

What a request does and the answer that a retry is to get are committed together, so there is never the one without
the other, and a process that is killed in between leaves neither. Answers that are no success are not kept: nothing was
done, and the retry is judged anew. Not for views whose answers hold secrets: they would lie in the database.
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
    default_detail = f"a request with this {HEADER} is being answered; try again"


def idempotent(post: Callable[..., Response]) -> Callable[..., HttpResponseBase]:
    """For `post` of a view whose effects are in Django's database: with the header it is done once in 24 hours."""

    @functools.wraps(post)
    def once(view: Any, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        key = request.headers.get(HEADER)
        if key is None:
            return post(view, request, *args, **kwargs)
        if not _KEY.fullmatch(key):
            raise ValidationError({HEADER: "1 to 255 printable ASCII characters are accepted"})
        name, digest = caller(request).name, _digest(request)
        answers = apps.get_model(settings.IDEMPOTENT_ANSWER_MODEL)
        with transaction.atomic():
            _lock(name, key)
            found = answers.objects.filter(caller=name, key=key, at__gt=timezone.now() - answers.RETENTION).first()
            if found is not None:
                return _again(found, digest)
            answer = post(view, request, *args, **kwargs)
            if status.is_success(answer.status_code):
                _keep(answers, name, key, digest, answer)
            else:
                transaction.set_rollback(True)
            return answer

    once.idempotent = True  # type: ignore[attr-defined]  # for the test that walks all routes
    return once


def _lock(name: str, key: str) -> None:
    """Until the transaction ends nobody else answers this key of this caller. Raises StillRunning."""
    number = int.from_bytes(hashlib.sha256(f"{name}\n{key}".encode()).digest()[:8], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (number,))
        if not cursor.fetchone()[0]:
            raise StillRunning


def _digest(request: Request) -> bytes:
    """What is asked, so that the same key with something else is noticed. JSON is the same in any order of names."""
    asked = (request.method, request.get_full_path(), request.data)
    return hashlib.sha256(msgspec.json.encode(asked, enc_hook=_described, order="sorted")).digest()


def _described(value: Any) -> str:
    """An uploaded file by its contents, anything else by its text."""
    if not hasattr(value, "chunks"):
        return str(value)
    found = hashlib.sha256()
    for chunk in value.chunks():
        found.update(chunk)
    value.seek(0)
    return found.hexdigest()


def _keep(answers: Any, name: str, key: str, digest: bytes, answer: Response) -> None:
    kept = {
        "digest": digest,
        "status": answer.status_code,
        "headers": dict(answer.headers),
        "body": JSONRenderer().render(answer.data),
        "at": timezone.now(),
    }
    answers.objects.update_or_create(kept, caller=name, key=key)


def _again(found: Any, digest: bytes) -> HttpResponse:
    if bytes(found.digest) != digest:
        raise InvalidField(HEADER, "was used for another request; use a new one for what is new")
    headers = found.headers | {"Content-Type": "application/json", "Idempotent-Replayed": "true"}
    return HttpResponse(bytes(found.body), status=found.status, headers=headers)
