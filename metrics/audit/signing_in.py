"""Signing in and out, and failing to: told of by Django's signals, whichever page or API was used."""

import logging
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest
from django.utils import timezone

from metrics.audit.record import record
from metrics.models import AuditEntry

log = logging.getLogger(__name__)

FAILED = "failed to sign in"
MOST_FAILED = 30  # entries of one name in a minute: whoever guesses passwords is not to fill the audit
UNKNOWN = "(unknown)"  # not the name that was typed: people type their password there


def listen() -> None:
    user_logged_in.connect(_signed_in)
    user_logged_out.connect(_signed_out)
    user_login_failed.connect(_failed)


def _signed_in(user: Any, **kwargs: Any) -> None:
    record("signed in", user)


def _signed_out(user: Any, **kwargs: Any) -> None:
    if user is not None:
        record("signed out", user)


def _failed(credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any) -> None:
    people: Any = get_user_model()
    name = str(credentials.get(people.USERNAME_FIELD, "")).replace("\0", "")
    known = people._default_manager.filter(**{people.USERNAME_FIELD: name}).exists()
    about = (str(people._meta.verbose_name), name if known else UNKNOWN)
    minute = timezone.now() - timedelta(minutes=1)
    lately = AuditEntry.objects.filter(action=FAILED, object_type=about[0], object_id=about[1], at__gt=minute)
    if lately.count() < MOST_FAILED:
        record(FAILED, about)
    else:
        log.warning("%s fails to sign in again and again", about[1])
