"""The threads of the bus: of `manage.py run_bus`, and of every worker with a configured target.

They do not use the Celery queue, so events are delivered while Redis is down. Any number of processes may run them: per
target, one of them leads.
"""

from collections.abc import Sequence

from django.conf import settings

from telemetry_site.bus.inbound.consumer import InboundLoop
from telemetry_site.bus.relay import TargetRelay
from telemetry_site.bus.targets.configured import configured_targets

STOP_TIMEOUT = 6.0  # seconds for all threads to end


def start_loops() -> Sequence[TargetRelay | InboundLoop]:
    """Start the relay of every configured target, and with NATS the consumer of the events of other services."""
    loops: list[TargetRelay | InboundLoop] = [TargetRelay(target) for target in configured_targets()]
    if settings.NATS_URL:
        loops.append(InboundLoop(settings.NATS_URL, settings.NATS_PREFIX, settings.NATS_INBOUND))
    for loop in loops:
        loop.start()
    return loops


def stop_loops(loops: Sequence[TargetRelay | InboundLoop]) -> None:
    """Ask all threads to end, then wait up to STOP_TIMEOUT for each."""
    for loop in loops:
        loop.request_stop()
    for loop in loops:
        loop.join(STOP_TIMEOUT)
