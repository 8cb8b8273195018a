"""`manage.py run_bus`: the event bus as a process of its own, and the replay of delivered events."""

import signal
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from metrics.storage.connection import close_pools, dedicated_connection
from metrics.streams.positions import read_epoch
from telemetry_site.bus.backlog import is_drained
from telemetry_site.bus.loops import start_loops, stop_loops
from telemetry_site.bus.replay import parse_duration, replay
from telemetry_site.bus.targets.configured import configured_targets
from telemetry_site.bus.targets.target import Target

CHECK_INTERVAL = 0.5  # seconds


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


class Command(BaseCommand):
    help = (
        "Send events to NATS, webhooks and Redis Streams, and receive deletions from NATS, until SIGTERM or Ctrl-C."
        " Every worker does both too. Any number of processes may run: per target, one of them leads."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="end when everything committed so far is delivered")
        parser.add_argument(
            "--replay",
            type=_duration,
            metavar="DURATION",
            help="send the events of the last DURATION (90s, 10m, 1h) again, then end. Targets drop or ignore those"
            " that they have: use it after a NATS server has lost what it acknowledged",
        )
        parser.add_argument("--target", help="with --replay: only this target (default: all)")

    def handle(self, *args: Any, **options: Any) -> None:
        targets = configured_targets()
        if not targets:
            raise CommandError("no target: set NATS_URL, TELEMETRY_EVENT_WEBHOOKS or TELEMETRY_EVENT_REDIS_STREAM")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler)
        loops: Sequence[Any] = ()
        try:
            if options["replay"] is not None:
                self._rewind(targets, options["replay"], options["target"])
            loops = start_loops()
            self.stdout.write(f"running: {', '.join(target.name for target in targets)}")
            self.stdout.flush()
            self._wait(targets, bool(options["once"] or options["replay"]))
        except KeyboardInterrupt:
            pass
        finally:
            stop_loops(loops)
            close_pools()
            connection.close_pool()  # type: ignore[attr-defined]  # an open pool delays the end of the process

    def _rewind(self, targets: Sequence[Target], duration: timedelta, name: str | None) -> None:
        chosen = [target for target in targets if name in (None, target.name)]
        if not chosen:
            raise CommandError(f"--target {name} is unknown; the targets are {', '.join(t.name for t in targets)}")
        with dedicated_connection() as database:
            replay(database, chosen, duration, read_epoch(database))
        self.stdout.write(f"sending the events of the last {duration} again: {', '.join(t.name for t in chosen)}")

    def _wait(self, targets: Sequence[Target], until_delivered: bool) -> None:
        """Wait for Ctrl-C, or until all targets have what was committed before this call."""
        with dedicated_connection() as database:
            until = database.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
            assert until is not None
            while not (until_delivered and all(is_drained(database, target, until[0]) for target in targets)):
                time.sleep(CHECK_INTERVAL)
        self.stdout.write("everything is delivered")
