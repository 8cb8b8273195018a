"""Create what a new installation needs: the first admin, an API key, and a key for the host collector.

Provisioning runs at each start and changes nothing that exists. Generated passwords and keys are stored in the data
folder, readable only by its owner, and are used again if the database is new. Machines that share a database have one
admin and one admin key, which the first of them creates, and a key for each host collector.
"""

import secrets

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from ingest.models import ApiKey, digest_of, new_key
from metrics.models import Device
from rest.caller import Scope
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.embedded.site_processes import HOST_INTERVAL

ADMIN_NAME = "admin"
ADMIN_KEY_FIELDS = (Scope.ADMIN, None, None, None, None)  # scope, device, group, revoked_at, expires_at


@transaction.atomic
def provision() -> None:
    """Create the admin, the API key and the key of the host collector, unless they exist."""
    data_folder: DataFolder = settings.EMBEDDED
    create_first_admin(data_folder)
    create_api_key(data_folder)
    if settings.HOST_COLLECTOR:
        create_host_collector_key(data_folder)


def create_first_admin(data_folder: DataFolder) -> None:
    """Create the user `admin`, unless the site has a superuser."""
    users = get_user_model()._default_manager
    if users.filter(is_superuser=True).exists() or users.filter(username=ADMIN_NAME).exists():
        return
    password = data_folder.stored_secret(
        data_folder.admin_password_file.name, lambda: secrets.token_urlsafe(12), settings.ADMIN_PASSWORD
    )
    users.create_superuser(username=ADMIN_NAME, password=password)


def create_api_key(data_folder: DataFolder) -> None:
    """Create the admin API key: TELEMETRY_API_KEY, which always gets the admin scope, else the stored key.

    A data folder without a key gets none if the database has an admin key: another machine has created it.
    """
    configured: str = settings.PROVISIONED_API_KEY
    is_new_machine = not configured and not data_folder.api_key_file.exists()
    if is_new_machine and ApiKey.objects.filter(scope=Scope.ADMIN).exists():
        return
    key_text = data_folder.stored_secret(data_folder.api_key_file.name, new_key, configured)
    key = ApiKey.objects.filter(digest=digest_of(key_text)).first()
    if key is None:
        ApiKey.issue("first key" if not configured else "TELEMETRY_API_KEY", Scope.ADMIN, key=key_text)
    elif configured and (key.scope, key.device, key.group, key.revoked_at, key.expires_at) != ADMIN_KEY_FIELDS:
        key.scope, key.device, key.group, key.revoked_at, key.expires_at = ADMIN_KEY_FIELDS
        key.save()


def create_host_collector_key(data_folder: DataFolder) -> None:
    """Create the ingest key of the host collector, bound to this machine as a device."""
    key_text = data_folder.stored_secret(data_folder.host_collector_key_file.name, new_key)
    if ApiKey.objects.filter(digest=digest_of(key_text)).exists():
        return
    device, _ = Device.objects.get_or_create(
        device_id=data_folder.host_device_id(), defaults={"expected_interval": HOST_INTERVAL}
    )
    ApiKey.issue("host collector", Scope.INGEST, device=device, key=key_text)
