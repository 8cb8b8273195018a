"""`manage.py create_api_key`."""

import io

import pytest
from django.core.management import CommandError, call_command

from ingest.authentication import look_up
from ingest.models import ApiKey
from metrics.access import Scope
from metrics.models import Device

pytestmark = pytest.mark.django_db


def create(*args: str) -> str:
    out = io.StringIO()
    call_command("create_api_key", *args, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("scope", Scope.values)
def test_the_key_stands_alone_on_standard_output_and_opens_what_its_scope_says(scope: str) -> None:
    said = create("gateway 1", "--scope", scope)
    assert said == said.strip() + "\n"
    sender = look_up(said.strip())
    assert sender is not None
    assert (sender.scope, sender.device_id) == (scope, None)
    assert ApiKey.objects.get().name == "gateway 1"


def test_a_key_of_a_device_is_for_that_device_alone_which_is_made_where_unknown() -> None:
    Device.objects.create(device_id="known")
    for device in ("known", "new"):
        sender = look_up(create(f"key of {device}", "--scope", "ingest", "--device", device).strip())
        assert sender is not None
        assert sender.device_id == device
        assert [sender.may_write(other) for other in ("known", "new")] == [device == "known", device == "new"]
    assert Device.objects.count() == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["k", "--scope", "root"], "invalid choice: 'root' (choose from 'ingest', 'read', 'operate', 'admin')"),
        (["k"], "the following arguments are required: --scope"),
        (["", "--scope", "read"], "NAME: 0 characters"),
        (["k", "--scope", "read", "--device", "x" * 201], "--device: 201 characters"),
    ],
)
def test_a_wrong_argument_makes_no_key(args: list[str], said: str) -> None:
    with pytest.raises(CommandError) as caught:
        create(*args)
    assert said in str(caught.value)
    assert not ApiKey.objects.exists()
