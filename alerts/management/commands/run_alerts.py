"""`manage.py run_alerts`: the evaluation and delivery loops as a process of their own."""

import signal
import time
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connection

from alerts.loops import LOOPS, DeliveryLoop, EvaluationLoop, start_loops, stop_loops
from metrics.storage.connection import close_pools

# Seconds. Python runs a signal handler in the main thread, which a signal that another thread received does not wake.
SIGNAL_CHECK_INTERVAL = 0.5


class Command(BaseCommand):
    help = (
        "Evaluate alert rules and deliver notifications until SIGTERM or Ctrl-C. Every worker does both too, unless"
        " TELEMETRY_ALERTS_IN_WORKER is off. Any number of processes may run: one of them evaluates at a time,"
        " all of them deliver."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--only", choices=tuple(LOOPS), help="run one of the two loops (default: both)")

    def handle(self, *args: Any, **options: Any) -> None:
        names = [options["only"]] if options["only"] else list(LOOPS)
        # SIGINT too: a shell starts background processes with SIGINT ignored.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler)
        loops: Sequence[EvaluationLoop | DeliveryLoop] = ()
        try:
            loops = start_loops(names)
            self.stdout.write(f"running: {', '.join(names)}")
            self.stdout.flush()
            while True:
                time.sleep(SIGNAL_CHECK_INTERVAL)
        except KeyboardInterrupt:
            pass
        finally:
            stop_loops(loops)
            close_pools()
            connection.close_pool()  # type: ignore[attr-defined]  # an open pool delays the end of the process
