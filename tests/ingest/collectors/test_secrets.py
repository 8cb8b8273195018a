"""Secrets at rest: encryption, keys in the data folder and in a setting, rotation."""

import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from ingest.collection.models import Collector
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.env import Environment, InvalidSetting, parse_fernet_keys
from tests.ingest.collectors.factories import create_collector, run_once

KEY = "cE63DfouzHrBoUnIEI30SHSl1hsCwp8RYMNe0FNGL1g="
SECRET = "wonderful-secret"


@pytest.fixture
def folder(local_targets: None, settings: Any, tmp_path: Path) -> Path:
    settings.EMBEDDED = DataFolder(tmp_path)
    settings.SECRETS_KEYS = []
    return tmp_path


def create(name: str = "front page") -> Collector:
    return create_collector("http", {"url": "http://127.0.0.1:9/"}, name=name, secrets={"bearer_token": SECRET})


def test_key_is_created_in_the_data_folder_for_its_owner_only(folder: Path) -> None:
    create()
    file = folder / "secrets_keys"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert SECRET not in Collector.objects.get().encrypted_secrets
    assert Collector.objects.get().secrets == {"bearer_token": SECRET}


def test_rotation_replaces_the_key_and_keeps_the_former_one(folder: Path, capsys: Any) -> None:
    create()
    before, file = Collector.objects.get().encrypted_secrets, folder / "secrets_keys"
    [old] = file.read_text().split()
    call_command("rotate_secrets")
    assert capsys.readouterr().out == "the secrets of 1 collectors are encrypted with the first key\n"
    new, kept = file.read_text().split()
    assert kept == old != new and stat.S_IMODE(file.stat().st_mode) == 0o600
    collector = Collector.objects.get()
    assert collector.encrypted_secrets != before and collector.secrets == {"bearer_token": SECRET}
    assert Fernet(new).decrypt(collector.encrypted_secrets)
    call_command("rotate_secrets")
    assert old not in file.read_text() and Collector.objects.get().secrets == {"bearer_token": SECRET}


def test_keys_of_the_setting_are_rotated_by_order(folder: Path, settings: Any) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.SECRETS_KEYS = [old]
    create()
    settings.SECRETS_KEYS = [new, old]
    call_command("rotate_secrets")
    settings.SECRETS_KEYS = [new]
    assert Collector.objects.get().secrets == {"bearer_token": SECRET}
    assert not (folder / "secrets_keys").exists()


def test_lost_key_is_a_clear_failure_until_the_secrets_are_entered_again(folder: Path) -> None:
    collector = create()
    (folder / "secrets_keys").unlink()
    (row,) = run_once()
    assert row.error.startswith("the stored secrets cannot be decrypted") and SECRET not in row.error
    with pytest.raises(CommandError, match="no key decrypts the secrets of front page"):
        call_command("rotate_secrets")
    collector = Collector.objects.get()
    assert collector.secret_names == []
    collector.secrets = {"bearer_token": "new"}
    assert collector.secrets == {"bearer_token": "new"}


@pytest.mark.parametrize("keys", ["short", "x" * 44, f"{KEY},y"])
def test_invalid_key_in_the_setting_is_refused_without_showing_it(keys: str) -> None:
    with pytest.raises(InvalidSetting, match="32 bytes in URL-safe base64") as raised:
        Environment({"TELEMETRY_SECRETS_KEYS": keys}).parsed("TELEMETRY_SECRETS_KEYS", parse_fernet_keys, "")
    assert keys not in str(raised.value) or len(keys) < 6
