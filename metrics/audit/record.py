"""Write audit entries, in the transaction of the change."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model
from django.utils import timezone

from metrics.audit.actor import current_actor
from metrics.models import AuditEntry

MAX_VALUE_BYTES = 65_536  # of the values before, and of those after
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def record(
    action: str,
    target: Model | tuple[str, str],
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Record an action of the current actor: `record("rotated", key, after={"expires_at": time})`.

    `target` is a row, or (object type, object id) if there is no row or many: `("device", "boiler")`. `before` and
    `after` are the changed values, never secrets. Call this in the transaction of the change, so that both are
    committed or neither.
    """
    actor = current_actor()
    object_type, object_id = target if isinstance(target, tuple) else describe_row(target)
    entry = AuditEntry(
        at=timezone.now(),
        actor=_truncate("actor", actor.name),
        request_id=_truncate("request_id", actor.request_id),
        address=_truncate("address", actor.address),
        action=_truncate("action", action),
        object_type=_truncate("object_type", object_type),
        object_id=_truncate("object_id", object_id),
        before=_encode_values(before),
        after=_encode_values(after),
    )
    entry.digest = digest_of(
        str((entry.at - _EPOCH) // _MICROSECOND),
        *(getattr(entry, name) for name in ("actor", "request_id", "address", "action", "object_type", "object_id")),
        *(entry.before, entry.after),
    )
    entry.save(force_insert=True)


def describe_row(row: Model) -> tuple[str, str]:
    """Return (object type, object id)."""
    name: Any = row
    for part in name_field(type(row)).split("__"):
        name = getattr(name, part, row.pk)
    return str(row._meta.verbose_name), str(name)


def name_field(model: type[Model]) -> str:
    """Return the field that identifies a row to people; it may be one of a related row, as `device__device_id`."""
    return getattr(model, "audit_name", getattr(model, "USERNAME_FIELD", "name"))


def digest_of(*texts: str) -> bytes:
    """Return the SHA-256 of an entry's time (µs since 1970), actor, request_id, … in the order of its columns."""
    return hashlib.sha256(msgspec.json.encode(texts)).digest()


def _truncate(column: str, text: str) -> str:
    """Shorten a text to its column: values from requests have any length."""
    field: Any = AuditEntry._meta.get_field(column)
    return text.replace("\0", "")[: field.max_length]


def _encode_values(values: Mapping[str, Any] | None) -> str:
    if not values:
        return ""
    text = json.dumps(values, ensure_ascii=False, cls=DjangoJSONEncoder)
    if len(text.encode()) <= MAX_VALUE_BYTES:
        return text
    return json.dumps({"omitted": f"{len(text.encode()):,} bytes", "fields": sorted(map(str, values))[:100]})
