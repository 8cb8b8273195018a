"""API keys: whose they are, how they follow each other, how they end."""

import functools
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from ingest.identity.credential_owner import Holder
from ingest.models import ApiKey, digest_of
from metrics.models import Device
from metrics.storage import series_registry
from rest.caller import Caller
from rest.errors import TelemetryError

MOST_BINDINGS = 256  # combinations of groups whose devices are remembered at a time


def holder(text: str) -> Holder | None:
    """Whose key this is; None for nobody's, an expired or a revoked one."""
    found = named_by(text)
    return None if found is None else holder_of(found)


def named_by(text: str) -> ApiKey | None:
    """The key of this text, valid or not."""
    return ApiKey.objects.filter(digest=digest_of(text)).select_related("device", "group").first()


def holder_of(key: ApiKey) -> Holder | None:
    """What a key allows now."""
    if not key.is_valid:
        return None
    expires = key.expires_at.timestamp() if key.expires_at else float("inf")
    groups = (key.group.name,) if key.group else None
    device_id = key.device.device_id if key.device else None
    caller = Caller(f"key:{key.pk}:{key.name}", key.scope, device_id, groups, expires, members_of(groups))
    return Holder(caller, expires, key.pk)


def members_of(groups: tuple[str, ...] | None) -> frozenset[str] | None:
    """The devices of these groups, so that a point costs no query; None for those who are bound to no group."""
    return None if groups is None else _members(groups, series_registry.cached_registry().revision)


@functools.lru_cache(MOST_BINDINGS)
def _members(groups: tuple[str, ...], revision: int) -> frozenset[str]:
    """Shared by all who are bound to the same groups, until the revision moves: no membership changes without that."""
    through = Device.groups.through.objects.filter(devicegroup__name__in=groups)
    return frozenset(through.values_list("device__device_id", flat=True).iterator(chunk_size=10_000))


def forget() -> None:
    """Forget all members of groups: between tests, whose revisions may be alike."""
    _members.cache_clear()


def revoke(key: ApiKey) -> None:
    """From now on nobody's. One that was revoked before stays as it is."""
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save()


class NotValid(TelemetryError):
    """Nothing follows a key that is expired or revoked."""

    status = 409


@transaction.atomic
def rotate(pk: int, overlap: timedelta) -> tuple[ApiKey, str]:
    """The successor of a key and its text; the old one is good for `overlap` more, or as long as it would have been.

    The new one may do the same for as long as the old one could from its making. Raises NotValid.
    """
    old = ApiKey.objects.select_for_update().get(pk=pk)
    if not old.is_valid:
        raise NotValid("the key is expired or revoked: make a new one in its place")
    now = timezone.now()
    ends = None if old.expires_at is None else now + (old.expires_at - old.created_at)
    new, text = ApiKey.issue(old.name, old.scope, old.device, group=old.group, rotated_from=old, expires_at=ends)
    old.expires_at = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
    old.save()
    return new, text
