"""Provisioning of a new installation, and that a second run changes nothing."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.utils import timezone

from ingest.models import ApiKey, digest_of
from metrics.models import Device
from rest.caller import Scope
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.provision import provision

pytestmark = pytest.mark.usefixtures("site")  # empty


@pytest.fixture
def data_folder(settings: Any, tmp_path: Path) -> DataFolder:
    """A data folder without anything in it."""
    settings.EMBEDDED = DataFolder(tmp_path)
    settings.ADMIN_PASSWORD = settings.PROVISIONED_API_KEY = ""
    settings.HOST_COLLECTOR = True
    return DataFolder(tmp_path)


def key_in(file: Path) -> ApiKey:
    return ApiKey.objects.get(digest=digest_of(file.read_text().strip()))


@pytest.mark.slow
def test_provision_creates_admin_api_key_and_host_collector_key(data_folder: DataFolder) -> None:
    provision()
    admin = authenticate(username="admin", password=data_folder.admin_password_file.read_text().strip())
    assert admin is not None
    assert admin.is_superuser
    assert key_in(data_folder.api_key_file).scope == Scope.ADMIN
    host = key_in(data_folder.host_collector_key_file)
    assert (host.scope, host.device) == (Scope.INGEST, Device.objects.get(device_id=data_folder.host_device_id()))


@pytest.mark.slow
def test_second_provision_changes_nothing(data_folder: DataFolder) -> None:
    provision()
    contents = {file.name: file.read_text() for file in data_folder.path.iterdir()}
    provision()
    assert {file.name: file.read_text() for file in data_folder.path.iterdir()} == contents
    assert (ApiKey.objects.count(), get_user_model().objects.count()) == (2, 1)


@pytest.mark.slow
def test_second_machine_creates_no_admin_key_and_its_own_collector_key(
    data_folder: DataFolder, settings: Any, tmp_path: Path
) -> None:
    provision()
    settings.EMBEDDED = second = DataFolder(tmp_path / "second")
    provision()
    assert not second.api_key_file.exists()
    assert not second.admin_password_file.exists()
    assert ApiKey.objects.filter(scope=Scope.ADMIN).count() == 1
    assert key_in(second.host_collector_key_file) != key_in(data_folder.host_collector_key_file)


@pytest.mark.slow
def test_new_database_gets_the_stored_keys_and_password(data_folder: DataFolder) -> None:
    provision()
    password = data_folder.admin_password_file.read_text().strip()
    for model in (ApiKey, Device, get_user_model()):
        model.objects.all().delete()
    provision()
    assert authenticate(username="admin", password=password) is not None
    assert key_in(data_folder.api_key_file).scope == Scope.ADMIN
    assert key_in(data_folder.host_collector_key_file).device is not None


@pytest.mark.slow
def test_configured_password_is_used_and_not_stored(data_folder: DataFolder, settings: Any) -> None:
    settings.ADMIN_PASSWORD = "open sesame"
    provision()
    assert authenticate(username="admin", password="open sesame") is not None
    assert not data_folder.admin_password_file.exists()


@pytest.mark.slow
def test_admin_is_not_created_if_another_superuser_exists(data_folder: DataFolder) -> None:
    get_user_model().objects.create_superuser(username="grace", password="x")
    provision()
    assert not get_user_model().objects.filter(username="admin").exists()
    assert not data_folder.admin_password_file.exists()


@pytest.mark.slow
def test_configured_api_key_always_gets_the_admin_scope(data_folder: DataFolder, settings: Any) -> None:
    settings.PROVISIONED_API_KEY = "given-key-of-32-characters-0123456"
    device = Device.objects.create(device_id="pump")
    ApiKey.issue("old", Scope.READ, device, key=settings.PROVISIONED_API_KEY, revoked_at=timezone.now())
    provision()
    key = ApiKey.objects.get(digest=digest_of(settings.PROVISIONED_API_KEY))
    assert (key.scope, key.device, key.revoked_at, key.expires_at) == (Scope.ADMIN, None, None, None)
    assert not data_folder.api_key_file.exists()


@pytest.mark.slow
def test_revoked_stored_key_stays_revoked(data_folder: DataFolder) -> None:
    provision()
    ApiKey.objects.update(revoked_at=timezone.now())
    provision()
    assert key_in(data_folder.api_key_file).revoked_at is not None


@pytest.mark.slow
def test_without_host_collector_no_device_and_key_are_created(data_folder: DataFolder, settings: Any) -> None:
    settings.HOST_COLLECTOR = False
    provision()
    assert not Device.objects.exists()
    assert not data_folder.host_collector_key_file.exists()
