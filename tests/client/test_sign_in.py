"""`telemetry login` as a user and with a keyring."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from tests.client.conftest import Shell, url_of
from tests.conftest import ApiClient

pytestmark = pytest.mark.slow
PASSWORD = "correct horse 7"


@pytest.fixture
def user_shell(bare_shell: Shell, admin: ApiClient) -> Shell:
    """A shell that is logged in as a user."""
    get_user_model().objects.create_superuser("anna", password=PASSWORD)
    bare_shell.succeed(f"telemetry login {url_of(admin)} --user anna", PASSWORD + "\n")
    return bare_shell


def profile_file(shell: Shell) -> Path:
    return shell.folder / "config" / "telemetry" / "profiles.json"


def change_profile(shell: Shell, **fields: Any) -> None:
    document = json.loads(profile_file(shell).read_text())
    document["profiles"]["default"].update(fields)
    profile_file(shell).write_text(json.dumps(document))


def test_user_works_without_a_key_and_the_password_is_not_stored(user_shell: Shell) -> None:
    assert user_shell.succeed("telemetry devices --json").json == []
    assert "anna" in user_shell.succeed("telemetry profile list").out
    text = profile_file(user_shell).read_text()
    assert PASSWORD not in text
    assert profile_file(user_shell).stat().st_mode & 0o777 == 0o600


def test_commands_at_the_same_time_renew_an_ended_token_once(user_shell: Shell) -> None:
    change_profile(user_shell, expires_at=0, access_token="ended")
    start = "telemetry devices --json & commands+=($!); "
    user_shell.succeed(3 * start + 'for command in "${commands[@]}"; do wait "$command" || exit; done')
    stored = json.loads(profile_file(user_shell).read_text())["profiles"]["default"]
    assert stored["access_token"] != "ended"
    change_profile(user_shell, expires_at=0)
    user_shell.succeed("telemetry devices --json")  # the refresh token of the last renewal is valid


def test_expired_sign_in_names_the_command_to_repeat_it(user_shell: Shell, admin: ApiClient) -> None:
    change_profile(user_shell, expires_at=0, refresh_token="rt_unknown")
    result = user_shell.run("telemetry devices")
    expected = f"telemetry: the sign-in of anna has ended: run telemetry login {url_of(admin)} --user anna\n"
    assert (result.code, result.out, result.err) == (2, "", expected)


def test_wrong_password_exits_with_1_and_stores_nothing(bare_shell: Shell, admin: ApiClient) -> None:
    result = bare_shell.run(f"telemetry login {url_of(admin)} --user anna", "wrong\n")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "the username or the password is wrong" in result.err
    assert not profile_file(bare_shell).exists()


def test_removed_profile_revokes_its_tokens(user_shell: Shell, admin: ApiClient) -> None:
    stored = json.loads(profile_file(user_shell).read_text())["profiles"]["default"]
    user_shell.succeed("telemetry profile remove default")
    assert admin.post("auth/refresh", {"refresh_token": stored["refresh_token"]}).status == 401


def test_profile_of_an_older_version_is_read(bare_shell: Shell, admin: ApiClient) -> None:
    profile_file(bare_shell).parent.mkdir(parents=True)
    stored = {"url": url_of(admin), "api_key": admin.headers["X-Api-Key"], "unknown": 1}
    profile_file(bare_shell).write_text(json.dumps({"current": "default", "profiles": {"default": stored}}))
    profile_file(bare_shell).chmod(0o600)
    bare_shell.succeed("telemetry devices --json")


@pytest.mark.parametrize("user", ["", "--user anna"])
def test_keyring_has_the_secret_instead_of_the_file(bare_shell: Shell, admin: ApiClient, user: str) -> None:
    get_user_model().objects.create_superuser("anna", password=PASSWORD)
    keyring_file = bare_shell.folder / "keyring.json"
    bare_shell.variables.update(
        PYTHON_KEYRING_BACKEND="tests.client.file_keyring.FileKeyring", TEST_KEYRING_FILE=str(keyring_file)
    )
    secret = PASSWORD if user else admin.headers["X-Api-Key"]
    bare_shell.succeed(f"telemetry login {url_of(admin)} {user} --keyring", secret + "\n")
    stored = json.loads(profile_file(bare_shell).read_text())["profiles"]["default"]
    assert stored == {"url": url_of(admin), "keyring": True} | ({"user": "anna"} if user else {})
    bare_shell.succeed("telemetry devices --json")
    bare_shell.variables["TEST_KEYRING_LOCKED"] = "1"
    result = bare_shell.run("telemetry devices")
    assert (result.code, result.err) == (2, "telemetry: the keyring cannot be used: the keyring is locked\n")
    del bare_shell.variables["TEST_KEYRING_LOCKED"]
    bare_shell.succeed("telemetry profile remove default")
    assert json.loads(keyring_file.read_text()) == {}


def test_keyring_that_is_not_installed_is_named(bare_shell: Shell, admin: ApiClient) -> None:
    (bare_shell.folder / "keyring.py").write_text("raise ImportError")
    line = f"PYTHONPATH={bare_shell.folder}:$PYTHONPATH telemetry login {url_of(admin)} --keyring"
    result = bare_shell.run(line, admin.headers["X-Api-Key"] + "\n")
    assert (result.code, result.err) == (2, "telemetry: the keyring needs the package keyring: pip install keyring\n")
    assert not profile_file(bare_shell).exists()
