"""`manage.py run_bus` with a real NATS server."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.private_nats import PrivateNats
from tests.telemetry_site.bus.conftest import write_events
from tests.telemetry_site.bus.test_nats_target import stored_devices

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("site")]


@pytest.fixture(autouse=True)
def keep_signal_handlers() -> Any:
    import signal

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run_bus(*arguments: str) -> str:
    output = StringIO()
    call_command("run_bus", *arguments, stdout=output)
    return output.getvalue()


def test_once_delivers_everything_and_replay_repeats_nothing_that_is_stored(nats: PrivateNats, settings: Any) -> None:
    settings.NATS_URL = nats.url
    expected = write_events(400)
    assert "running: nats\neverything is delivered" in run_bus("--once")
    assert stored_devices(nats) == expected

    assert run_bus("--replay", "10m").startswith("sending the events of the last 0:10:00 again: nats\n")
    assert stored_devices(nats) == expected


def test_unusable_arguments_name_what_is_accepted(settings: Any) -> None:
    with pytest.raises(CommandError, match="no target: set NATS_URL"):
        run_bus()
    settings.NATS_URL = "nats://127.0.0.1:1"
    with pytest.raises(CommandError, match="a duration such as 90s, 10m, 1h or 2d is accepted"):
        run_bus("--replay", "ten")
    with pytest.raises(CommandError, match="--target redis is unknown; the targets are nats"):
        run_bus("--replay", "10m", "--target", "redis")
