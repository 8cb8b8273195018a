"""One-time tickets: how a client that cannot send headers opens a stream without a secret in its URL.

A ticket is valid for 30 seconds and for one stream, so a copy of it in a log of a proxy is of no use.
"""

import math
import secrets
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from django.utils import timezone

from dashboard.models import Ticket
from dashboard.streams.access import Access, IssuedAccess, SessionAccess, access_of
from ingest.models import digest_of
from rest.caller import Caller

LIFETIME = 30  # seconds
PREFIX = "tt_"
RANDOM_BYTES = 24


def issue(caller: Caller, owner: str, session_key: str | None) -> str:
    """Return a new ticket with the rights of a caller; the stream ends with the session if the caller has one."""
    text = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    Ticket.objects.create(
        digest=digest_of(text),
        owner=owner,
        session_key=session_key or "",
        caller=_to_json(caller),
        expires_at=timezone.now() + timedelta(seconds=LIFETIME),
    )
    return text


def redeem(text: str) -> tuple[Access, Caller] | None:
    """Use up a ticket; return whose stream it opens. None if it is unknown, expired or used already."""
    ticket = _delete(digest_of(text))
    if ticket is None or ticket.expires_at <= timezone.now():
        return None
    caller = _from_json(ticket.caller)
    access: Access
    if ticket.session_key:
        access = SessionAccess(ticket.owner, ticket.session_key)
    else:
        access = access_of(ticket.owner) or IssuedAccess(ticket.owner)
    current = access.renew(caller)
    return None if current is None else (access, current)


def delete_expired() -> int:
    """Delete expired tickets; return their number."""
    return Ticket.objects.filter(expires_at__lte=timezone.now()).delete()[0]


def _delete(digest: bytes) -> Ticket | None:
    """Delete a ticket and return it; of several requests with the same ticket one gets it."""
    rows = Ticket.objects.raw(
        "DELETE FROM dashboard_ticket WHERE digest = %s RETURNING digest, owner, session_key, caller, expires_at",
        [digest],
    )
    return next(iter(rows), None)


def _to_json(caller: Caller) -> dict[str, Any]:
    fields = asdict(replace(caller, members=None))
    del fields["members"]  # looked up again, since it may change
    return fields | {"expires": None if math.isinf(caller.expires) else caller.expires}


def _from_json(fields: dict[str, Any]) -> Caller:
    groups = fields["groups"]
    expires = math.inf if fields["expires"] is None else float(fields["expires"])
    return Caller(**fields | {"groups": None if groups is None else tuple(groups), "expires": expires})
