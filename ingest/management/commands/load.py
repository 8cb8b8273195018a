"""`manage.py load FILE.csv --device ID`: a recording into the site."""

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError, connection

from ingest.recordings.load import Load, Order, Outcome
from ingest.recordings.localtime import zone_named
from ingest.recordings.source import Unreadable
from ingest.wire.validate import BadPoint, check_name
from metrics.errors import EXPECTED_ERRORS
from metrics.models import Device
from metrics.storage.connection import connection_parameters
from metrics.storage.write.writer import MAX_COMMIT_POINTS

BAR = 30
SELDOM = 10.0  # seconds between lines where there is no terminal to draw a bar on
OFTEN = 0.1


class Command(BaseCommand):
    help = (
        "Load a recording: a CSV file (also .gz, or - for standard input) whose header names timestamp and value, and "
        "perhaps device_id, metric_name, unit, tags, metadata. A load that was stopped goes on where it was; loading "
        "twice changes nothing."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE.csv")
        parser.add_argument(
            "--device", metavar="ID", help="whose measurements they are (the column device_id otherwise)"
        )
        parser.add_argument(
            "--metric", metavar="NAME", help="what was measured (the column metric_name, or the file's name)"
        )
        parser.add_argument(
            "--tz",
            metavar="ZONE",
            default="UTC",
            help="where the times without offset are local, such as Europe/Berlin",
        )
        parser.add_argument("--now", action="store_true", help="move the recording in time so that it ends now")
        parser.add_argument(
            "--batch", metavar="N", type=batch_size, default=20_000, help="points of one commit (default 20000)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        check_database()
        order = order_of(options)
        bar = Bar(sys.stderr)
        try:
            if order.device is not None:
                Device.objects.get_or_create(device_id=order.device)
            outcome = Load(order, settings.DATA_DIR / "loads", bar.draw).run()
        except Unreadable as error:
            bar.end()
            raise CommandError(str(error)) from None
        except (*EXPECTED_ERRORS, OperationalError) as error:
            bar.end()
            again = "Nothing that was stored is lost; run the same command again to go on."
            raise CommandError(f"the database went away ({str(error).strip()}). {again}") from None
        except KeyboardInterrupt:
            bar.end()
            raise CommandError("stopped; run the same command again to go on", returncode=130) from None
        bar.end()
        for line in summary(order, outcome):
            self.stdout.write(line)
        if outcome.tally.rejected and not outcome.tally.stored:
            raise CommandError("no row could be stored")


def batch_size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_COMMIT_POINTS:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MAX_COMMIT_POINTS} is accepted")
    return int(text)


def check_database() -> None:
    """One clear line where there is no database, sooner than a connection pool would give up."""
    try:
        psycopg.connect(**connection_parameters() | {"connect_timeout": 5}).close()
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        line = f"start the site with `make run` first, or set DATABASE_URL (no database: {reason})"
        raise CommandError(line, returncode=2) from None
    try:
        Device.objects.exists()
    except ProgrammingError:
        raise CommandError("the database has no tables yet: run `manage.py migrate` first", returncode=2) from None


def order_of(options: dict[str, Any]) -> Order:
    path = options["file"]
    metric = options["metric"]
    try:
        zone = zone_named(options["tz"])
        if options["device"] is not None:
            check_name(options["device"], "--device")
        if metric is not None:
            check_name(metric, "--metric")
    except BadPoint as bad:
        raise CommandError(f"{bad.field}: {bad.detail}", returncode=2) from None
    except ValueError as error:
        raise CommandError(f"--tz: {error}", returncode=2) from None
    return Order(path, options["device"], metric, zone, options["now"], options["batch"], place_of_database())


def place_of_database() -> str:
    """Tells this database from another, and from one of the same name that was dropped."""
    named = connection.settings_dict
    with connection.cursor() as cursor:
        cursor.execute("SELECT oid FROM pg_database WHERE datname = current_database()")
        (oid,) = cursor.fetchone()
    return "\n".join(str(part) for part in (named["HOST"], named["PORT"], named["NAME"], oid))


def summary(order: Order, outcome: Outcome) -> list[str]:
    tally = outcome.tally
    source = "standard input" if order.path == "-" else Path(order.path).name
    lines = [f"{source}: {tally.stored:,} points stored, {tally.rejected:,} rows rejected ({outcome.rate:,.0f} rows/s)"]
    if outcome.resumed_behind:
        lines.append(f"  went on behind {outcome.resumed_behind:,} rows of an earlier run")
    if order.until_now and outcome.progress.newest is not None:
        ends = datetime.fromtimestamp(outcome.progress.newest / 1e6, UTC)
        again = ", where it was before: a second copy would lie over the first" if outcome.is_again else ""
        lines.append(f"  shifted to end at {ends:%Y-%m-%d %H:%M:%S} UTC{again}")
    lines += [f"  {note}" for note in outcome.definitions.notes.values()]
    if outcome.ambiguous:
        lines.append(f"  {outcome.ambiguous:,} times in the hour that came twice in {order.zone}")
    lines += [f"  rejected: {reason}" for reason in tally.reasons()]
    if not order.until_now and any("older than" in reason.text for reason in tally.reasons()):
        lines.append("  (--now moves a recording in time so that it ends now)")
    return lines


class Bar:
    """How far it is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, out: Any) -> None:
        self._out, self._is_terminal = out, out.isatty()
        self._next = time.monotonic() + (0 if self._is_terminal else SELDOM)
        self._drawn = False

    def draw(self, outcome: Outcome, part: float | None) -> None:
        now = time.monotonic()
        if now < self._next and not (self._is_terminal and part == 1.0):
            return
        self._next = now + (OFTEN if self._is_terminal else SELDOM)
        tally = outcome.tally
        line = f"{tally.rows:>12,} rows  {outcome.rate:>9,.0f} rows/s  {tally.rejected:,} rejected"
        if part is not None:
            filled = "█" * int(part * BAR)
            line = f"{filled:░<{BAR}} {part:4.0%} {line}"
        self._out.write(f"\r{line}" if self._is_terminal else f"{line}\n")
        self._out.flush()
        self._drawn = self._is_terminal

    def end(self) -> None:
        if self._drawn:
            self._out.write("\n")
