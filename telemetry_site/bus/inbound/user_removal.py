"""A user who was deleted in another service: sign-ins and tokens end, and a successor gets what the user owned.

The row of the user stays, since the audit log and the history of alerts refer to it. API keys have no owner: they
belong to devices, groups or programs and keep working.
"""

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone

from alerts import alert_actions
from alerts.models import Alert, Silence
from ingest.models import TokenFamily
from metrics.audit.record import record
from metrics.models import ExportJob
from rest.caller import Caller
from telemetry_site.bus.inbound.incoming_event import InvalidEvent

_User: Any = get_user_model()


def remove_user(username: str | None, email: str | None, successor: str | None) -> str:
    """Disable a user in the current transaction and hand over what the user owned; return what was done.

    Raises InvalidEvent if the event names no user, an ambiguous one or an unusable successor, or if the last active
    admin would be disabled.
    """
    user = _find_user(username, email)
    if user is None:
        return f"user {username or email} does not exist"
    heir = _find_successor(user, successor)
    _end_access(user)
    counts = _hand_over(user, heir)
    record("handed over", user, before={"owner": user.get_username()}, after={"owner": heir.get_username(), **counts})
    return f"user {user} is disabled; {heir} got {', '.join(f'{count} {name}' for name, count in counts.items())}"


def _find_user(username: str | None, email: str | None) -> Any:
    if username is None and email is None:
        raise InvalidEvent("username is missing: username, user_id (the same text) or email must name the user")
    users = _User.objects.select_for_update(of=("self",))
    if username is not None:
        return users.filter(username=username).first()
    found = list(users.filter(email__iexact=email)[:2])
    if len(found) > 1:
        raise InvalidEvent("email belongs to several users: username must name one of them")
    return found[0] if found else None


def _find_successor(user: Any, successor: str | None) -> Any:
    """Return the named successor, by default the first active superuser."""
    others = _User.objects.filter(is_active=True).exclude(pk=user.pk)
    admins = others.filter(is_superuser=True).order_by("pk")
    if user.is_superuser and user.is_active and not admins.exists():
        raise InvalidEvent(f"user {user} is the last active admin: create another one, then replay this message")
    if successor is not None:
        named = others.filter(username=successor).first()
        if named is None:
            raise InvalidEvent(f"successor must be the name of another active user; {successor} is not one")
        return named
    if (first := admins.first()) is None:
        raise InvalidEvent("successor is missing, and there is no active admin")
    return first


def _end_access(user: Any) -> None:
    """Disable the user; sessions end, because they are bound to the password, and so do tokens."""
    user.is_active = False
    user.password = f"!{secrets.token_urlsafe(30)}"  # unusable, and different from every earlier one
    user.save(update_fields=["is_active", "password"])
    revoked = TokenFamily.objects.filter(user=user, revoked_at__isnull=True).update(revoked_at=timezone.now())
    if revoked:
        record("revoked tokens", user, after={"sign-ins": revoked})


def _hand_over(user: Any, heir: Any) -> dict[str, int]:
    """Give everything that has an owner to the successor; return the counts."""
    old, new = Caller.of_user(user).name, Caller.of_user(heir).name
    alerts = alert_actions.assign(Alert.objects.filter(owner=old), new, old)
    silences = Silence.objects.filter(created_by=old, ends_at__gt=timezone.now())
    exports = ExportJob.objects.filter(owner=old).update(owner=new)
    return {
        "exports": exports,
        "silences": silences.update(created_by=new, updated_at=timezone.now()),
        "alerts": len(alerts),
    }
