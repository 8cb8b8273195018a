"""`manage.py doctor`: one line per finding about the installation, for people who look for a fault."""

from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection

from metrics.storage.connection import close_pools, monitoring_connection
from metrics.storage.errors import StorageUnavailable
from telemetry_site import health_checks
from telemetry_site.bus.health import BusHealth, read_bus_health

OK, WARNING, FAILED = "ok", "warning", "failed"


class Command(BaseCommand):
    help = (
        "Check the components of the site and the event bus. Prints one line per finding; the exit code is 1 if a"
        " component is not healthy. Queues of web processes are in /health/detailed."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        components, _ = health_checks.run_checks()
        lines = [
            (OK if component.status == health_checks.HEALTHY else FAILED, name, component.detail)
            for name, component in components.items()
            if name != "event_bus"
        ]
        try:
            with monitoring_connection() as database:
                lines += _bus_lines(read_bus_health(database))
        except StorageUnavailable:
            lines.append((FAILED, "event_bus", "the database does not answer"))
        for status, name, detail in lines:
            self.stdout.write(f"{status:8}{name}: {detail}")
        close_pools()
        connection.close_pool()  # type: ignore[attr-defined]  # an open pool delays the end of the process
        if any(status == FAILED for status, *_ in lines):
            raise SystemExit(1)


def _bus_lines(health: BusHealth) -> list[tuple[str, str, str]]:
    lines = [(FAILED, "event_bus", problem) for problem in health.problems]
    lines += [(WARNING, "event_bus", target.warning) for target in health.targets if target.warning]
    if health.parked:
        lines.append((WARNING, "event_bus", f"{health.parked:,} parked messages: see /admin/bus/parkedmessage/"))
    if not health.problems:
        names = ", ".join(target.name for target in health.targets)
        lines.append((OK, "event_bus", f"events are delivered to {names}" if names else "no target is configured"))
    return lines
