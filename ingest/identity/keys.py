"""API keys: their owners, rotation and revocation."""

import functools
from collections.abc import Collection
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from ingest.identity.credential_owner import CredentialOwner
from ingest.models import ApiKey, digest_of
from metrics.models import Device
from metrics.storage import series_registry
from rest.caller import Caller
from rest.errors import TelemetryError

MAX_CACHED_BINDINGS = 256  # combinations of groups whose devices are cached


def find_owners(texts: Collection[str]) -> dict[str, CredentialOwner | None]:
    """Return the owner of each key; None if the key is unknown, expired or revoked."""
    by_digest = {digest_of(text): text for text in texts}
    owners: dict[str, CredentialOwner | None] = dict.fromkeys(texts)
    for key in ApiKey.objects.filter(digest__in=list(by_digest)).select_related("device", "group"):
        owners[by_digest[bytes(key.digest)]] = owner_of_key(key)
    return owners


def find_key(text: str) -> ApiKey | None:
    """Return the key with this text, valid or not."""
    return ApiKey.objects.filter(digest=digest_of(text)).select_related("device", "group").first()


def owner_of_key(key: ApiKey) -> CredentialOwner | None:
    """Return the owner of a key; None if the key is expired or revoked."""
    if not key.is_valid:
        return None
    expires = key.expires_at.timestamp() if key.expires_at else float("inf")
    groups = (key.group.name,) if key.group else None
    device_id = key.device.device_id if key.device else None
    caller = Caller(f"key:{key.pk}:{key.name}", key.scope, device_id, groups, expires, members_of(groups))
    return CredentialOwner(caller, expires, key.pk)


def members_of(groups: tuple[str, ...] | None) -> frozenset[str] | None:
    """Return the devices of groups, cached so that a point costs no query; None if there is no restriction."""
    return None if groups is None else _members(groups, series_registry.cached_registry().revision)


@functools.lru_cache(MAX_CACHED_BINDINGS)
def _members(groups: tuple[str, ...], revision: int) -> frozenset[str]:
    """Return the devices of groups at a revision; every change of a membership increases the revision."""
    through = Device.groups.through.objects.filter(devicegroup__name__in=groups)
    return frozenset(through.values_list("device__device_id", flat=True).iterator(chunk_size=10_000))


def clear_members() -> None:
    """Clear the cached members of groups."""
    _members.cache_clear()


def revoke(key: ApiKey) -> None:
    """Revoke a key. A key that is revoked already stays as it is."""
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save()


class KeyNotValid(TelemetryError):
    """An expired or revoked key cannot be rotated."""

    status = 409


@transaction.atomic
def rotate(pk: int, overlap: timedelta) -> tuple[ApiKey, str]:
    """Create the successor of a key; return it with its text.

    The old key stays valid for `overlap`, but not beyond its own expiry. The new key has the same rights and the same
    lifetime from now. Raises KeyNotValid.
    """
    old = ApiKey.objects.select_for_update().get(pk=pk)
    if not old.is_valid:
        raise KeyNotValid("an expired or revoked key cannot be rotated: create a new key")
    now = timezone.now()
    ends = None if old.expires_at is None else now + (old.expires_at - old.created_at)
    new, text = ApiKey.issue(old.name, old.scope, old.device, group=old.group, rotated_from=old, expires_at=ends)
    old.expires_at = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
    old.save()
    return new, text
