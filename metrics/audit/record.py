"""Writing what was done, in the transaction that does it."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model
from django.utils import timezone

from metrics.audit.acting import actor
from metrics.models import AuditEntry

MOST_BYTES = 65_536  # of what was there before, and of what is there since
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def record(
    action: str,
    thing: Model | tuple[str, str],
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Tell the audit that whoever is acting did this: `record("rotated", key, after={"expires_at": then})`.

    `thing` is a row, or (what kind of object, which one) where there is none or are many: `("device", "boiler")`.
    `before` and `after` hold what is worth knowing, and never a secret. Call it in the transaction of what is done:
    both come to be, or neither.
    """
    acting = actor()
    object_type, object_id = thing if isinstance(thing, tuple) else about(thing)
    entry = AuditEntry(
        at=timezone.now(),
        actor=_fitting("actor", acting.name),
        request_id=_fitting("request_id", acting.request_id),
        address=_fitting("address", acting.address),
        action=_fitting("action", action),
        object_type=_fitting("object_type", object_type),
        object_id=_fitting("object_id", object_id),
        before=_written(before),
        after=_written(after),
    )
    entry.digest = digest_of(
        str((entry.at - _EPOCH) // _MICROSECOND),
        *(getattr(entry, name) for name in ("actor", "request_id", "address", "action", "object_type", "object_id")),
        *(entry.before, entry.after),
    )
    entry.save(force_insert=True)


def about(row: Model) -> tuple[str, str]:
    """(what kind of object a row is, the name that it is known by)."""
    return str(row._meta.verbose_name), str(getattr(row, name_field(type(row)), row.pk))


def name_field(model: type[Model]) -> str:
    """The field by which people know a row."""
    return getattr(model, "audit_name", getattr(model, "USERNAME_FIELD", "name"))


def digest_of(*texts: str) -> bytes:
    """The digest of an entry: of its time in µs since 1970, actor, request_id, … in the order of its columns."""
    return hashlib.sha256(msgspec.json.encode(texts)).digest()


def _fitting(column: str, text: str) -> str:
    """A text that fits its column: what comes with a request may be of any length."""
    field: Any = AuditEntry._meta.get_field(column)
    return text.replace("\0", "")[: field.max_length]


def _written(values: Mapping[str, Any] | None) -> str:
    if not values:
        return ""
    text = json.dumps(values, ensure_ascii=False, cls=DjangoJSONEncoder)
    if len(text.encode()) <= MOST_BYTES:
        return text
    return json.dumps({"left out": f"{len(text.encode()):,} bytes", "fields": sorted(map(str, values))[:100]})
