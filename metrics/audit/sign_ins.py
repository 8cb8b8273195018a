"""Record sign-ins, sign-outs and failed sign-ins of every page and API, by Django's signals."""

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
MAX_FAILED_PER_MINUTE = 30  # entries per name, so that guessed passwords do not fill the audit
UNKNOWN_USER = "(unknown)"  # instead of the entered name: people enter their password there


def connect_signals() -> None:
    user_logged_in.connect(_record_sign_in)
    user_logged_out.connect(_record_sign_out)
    user_login_failed.connect(_record_failure)


def _record_sign_in(user: Any, **kwargs: Any) -> None:
    record("signed in", user)


def _record_sign_out(user: Any, **kwargs: Any) -> None:
    if user is not None:
        record("signed out", user)


def _record_failure(credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any) -> None:
    user_model: Any = get_user_model()
    name = str(credentials.get(user_model.USERNAME_FIELD, "")).replace("\0", "")
    exists = user_model._default_manager.filter(**{user_model.USERNAME_FIELD: name}).exists()
    target = (str(user_model._meta.verbose_name), name if exists else UNKNOWN_USER)
    minute = timezone.now() - timedelta(minutes=1)
    recent = AuditEntry.objects.filter(action=FAILED, object_type=target[0], object_id=target[1], at__gt=minute)
    if recent.count() < MAX_FAILED_PER_MINUTE:
        record(FAILED, target)
    else:
        log.warning("repeated failed sign-ins of %s", target[1])
