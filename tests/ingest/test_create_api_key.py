"""`manage.py create_api_key`."""

import io
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from ingest.authentication import resolve_credential
from ingest.models import ApiKey
from metrics.models import Device, DeviceGroup
from rest.caller import Scope

pytestmark = pytest.mark.usefixtures("site")  # empty


def run_command(*args: str) -> str:
    out = io.StringIO()
    call_command("create_api_key", *args, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("scope", Scope.values)
def test_command_prints_only_the_key_which_has_its_scope(scope: str) -> None:
    output = run_command("gateway 1", "--scope", scope)
    assert output == output.strip() + "\n"
    caller = resolve_credential(output.strip())
    assert caller is not None
    assert (caller.scope, caller.device_id) == (scope, None)
    assert ApiKey.objects.get().name == "gateway 1"


def test_device_key_is_restricted_to_its_device_which_is_created() -> None:
    Device.objects.create(device_id="known")
    for device in ("known", "new"):
        caller = resolve_credential(run_command(f"key of {device}", "--scope", "ingest", "--device", device).strip())
        assert caller is not None
        assert caller.device_id == device
        assert [caller.may_write(device_id) for device_id in ("known", "new")] == [device == "known", device == "new"]
    assert Device.objects.count() == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["k", "--scope", "root"], "invalid choice: 'root' (choose from 'ingest', 'read', 'operate', 'admin')"),
        (["k"], "the following arguments are required: --scope"),
        (["", "--scope", "read"], "NAME: 0 characters"),
        (["k", "--scope", "read", "--device", "x" * 201], "--device: 201 characters"),
        (["k", "--scope", "read", "--group", "nowhere"], "--group: group 'nowhere' does not exist"),
        (["k", "--scope", "read", "--group", "g", "--device", "d"], "--group: a key is for a device or for a group"),
        (["k", "--scope", "read", "--expires-days", "0"], "--expires-days must be 1 to 36500"),
        (["k", "--scope", "read", "--expires-days", "soon"], "invalid int value: 'soon'"),
    ],
)
def test_invalid_argument_creates_no_key(args: list[str], message: str) -> None:
    with pytest.raises(CommandError) as raised:
        run_command(*args)
    assert message in str(raised.value)
    assert not ApiKey.objects.exists()


def test_key_can_have_a_group_and_an_expiry() -> None:
    group = DeviceGroup.objects.create(name="site a")
    caller = resolve_credential(
        run_command("gateway", "--scope", "ingest", "--group", "site a", "--expires-days", "2").strip()
    )
    assert caller is not None
    assert caller.groups == ("site a",)
    key = ApiKey.objects.get()
    assert key.group == group
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - timedelta(days=2)) < timedelta(minutes=1)
