"""What a new installation needs before anyone can use it: a first admin, an API key, this machine's own key.

Everything here may run at each start: what is there stays as it is. What was made up is kept in the data
folder, readable by its owner alone; a kept text is used again when the database is new.
"""

import secrets

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from ingest.models import ApiKey, digest_of, new_key
from metrics.models import Device
from rest.caller import Scope
from telemetry_site.embedded.paths import Embedded

ADMIN_NAME = "admin"
UNLIMITED = (Scope.ADMIN, None, None, None, None)
HOST_INTERVAL = 5  # seconds between two measurements of the host collector


@transaction.atomic
def provision() -> None:
    place: Embedded = settings.EMBEDDED
    make_first_admin(place)
    make_api_key(place)
    if settings.HOST_COLLECTOR:
        make_host_key(place)


def make_first_admin(place: Embedded) -> None:
    """The user `admin`, in a site that has no superuser: one that was renamed or replaced is not brought back."""
    users = get_user_model()._default_manager
    if users.filter(is_superuser=True).exists() or users.filter(username=ADMIN_NAME).exists():
        return
    password = place.kept_secret(
        place.admin_password_file.name, lambda: secrets.token_urlsafe(12), settings.ADMIN_PASSWORD
    )
    users.create_superuser(username=ADMIN_NAME, password=password)


def make_api_key(place: Embedded) -> None:
    """The key that TELEMETRY_API_KEY gives, which then has the admin scope for sure; else a kept one."""
    given: str = settings.PROVISIONED_API_KEY
    text = place.kept_secret(place.api_key_file.name, new_key, given)
    known = ApiKey.objects.filter(digest=digest_of(text)).first()
    if known is None:
        ApiKey.issue("first key" if not given else "TELEMETRY_API_KEY", Scope.ADMIN, key=text)
    elif given and (known.scope, known.device, known.group, known.revoked_at, known.expires_at) != UNLIMITED:
        known.scope, known.device, known.group, known.revoked_at, known.expires_at = UNLIMITED
        known.save()


def make_host_key(place: Embedded) -> None:
    """The key with which this machine's own measurements come in, bound to this machine as a device."""
    text = place.kept_secret(place.host_collector_key_file.name, new_key)
    if ApiKey.objects.filter(digest=digest_of(text)).exists():
        return
    device, _ = Device.objects.get_or_create(
        device_id=place.host_device_id(), defaults={"expected_interval": HOST_INTERVAL}
    )
    ApiKey.issue("host collector", Scope.INGEST, device=device, key=text)
