"""`manage.py load FILE.csv --device ID`: load a recording."""

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

from ingest.recordings.encoding import ENCODINGS, check_encoding
from ingest.recordings.errors import UnreadableRecording
from ingest.recordings.file_format import FormatOptions
from ingest.recordings.load import DEFAULT_BATCH_SIZE, LoadOptions, LoadResult, RecordingLoad
from ingest.recordings.local_time import find_zone
from ingest.recordings.preview import describe_dialect, preview
from ingest.recordings.time_formats import ORDERS
from ingest.wire.validate import InvalidPoint, check_name
from metrics.error_responses import EXPECTED_ERRORS
from metrics.models import Device
from metrics.storage.connection import connection_parameters
from metrics.storage.write.group_commit import MAX_COMMIT_POINTS

BAR_WIDTH = 30
LINE_INTERVAL = 10.0  # seconds between lines of progress without a terminal
BAR_INTERVAL = 0.1


class Command(BaseCommand):
    help = (
        "Load a recording: a CSV file (also .gz, or - for standard input) with columns timestamp and value, and "
        "optionally device_id, metric_name, unit, tags and metadata; or with a column of times and a column for each "
        "metric, as loggers write it. Encoding, delimiter, header, dates and numbers are detected; --preview shows how "
        "the file is read. A load that was stopped resumes; loading a file twice changes nothing."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE.csv")
        parser.add_argument("--device", metavar="ID", help="device of all rows (default: the column device_id)")
        parser.add_argument(
            "--metric", metavar="NAME", help="metric of all rows (default: the column metric_name, or the file name)"
        )
        parser.add_argument(
            "--tz", metavar="ZONE", help="time zone of times without an offset, such as Europe/Berlin (default: UTC)"
        )
        parser.add_argument("--preview", action="store_true", help="show how the file is read, and store nothing")
        parser.add_argument("--columns", metavar="NAMES", default="", help="columns of values, separated by commas")
        parser.add_argument(
            "--missing", metavar="TEXT", action="append", default=[], help="value that means none: -999"
        )
        parser.add_argument("--encoding", metavar="NAME", help=f"one of {', '.join(ENCODINGS)} (default: detected)")
        parser.add_argument("--delimiter", metavar="CHARACTER", help="such as ; or tab (default: detected)")
        parser.add_argument("--decimal", choices=[".", ","], help="decimal separator (default: detected)")
        parser.add_argument("--dates", choices=[*ORDERS], help="order of day and month (default: detected)")
        parser.add_argument("--now", action="store_true", help="shift all times so that the recording ends now")
        parser.add_argument(
            "--batch",
            metavar="N",
            type=batch_size,
            default=DEFAULT_BATCH_SIZE,
            help=f"points of one commit (default {DEFAULT_BATCH_SIZE})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["preview"]:
            self._preview(read_options(options, ""))
            return
        check_database()
        load_options = read_options(options, database_identity())
        bar = ProgressBar(sys.stderr)
        try:
            if load_options.device is not None:
                Device.objects.get_or_create(device_id=load_options.device)
            result = RecordingLoad(load_options, settings.DATA_DIR / "loads", bar.draw).run()
        except UnreadableRecording as error:
            bar.end()
            raise CommandError(str(error)) from None
        except (*EXPECTED_ERRORS, OperationalError) as error:
            bar.end()
            hint = "Stored points are kept; run the same command again to resume."
            raise CommandError(f"the database cannot be reached ({str(error).strip()}). {hint}") from None
        except KeyboardInterrupt:
            bar.end()
            raise CommandError("stopped; run the same command again to resume", returncode=130) from None
        bar.end()
        for line in summary(load_options, result):
            self.stdout.write(line)
        if not result.counts.stored:
            raise CommandError("no row could be stored" if result.counts.rows else "the file has no rows")

    def _preview(self, load_options: LoadOptions) -> None:
        try:
            for line in preview(load_options):
                self.stdout.write(line)
        except UnreadableRecording as error:
            raise CommandError(str(error)) from None


def batch_size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_COMMIT_POINTS:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MAX_COMMIT_POINTS} is accepted")
    return int(text)


def check_database() -> None:
    """Raise CommandError if there is no database, sooner than a connection pool would time out."""
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


def read_options(options: dict[str, Any], database: str) -> LoadOptions:
    """Return the options of the command line. Raises CommandError."""
    metric = options["metric"]
    try:
        zone = find_zone(options["tz"] or "UTC")
        format_options = read_format(options)
        if options["device"] is not None:
            check_name(options["device"], "--device")
        if metric is not None:
            check_name(metric, "--metric")
    except InvalidPoint as error:
        raise CommandError(f"{error.field}: {error.detail}", returncode=2) from None
    except ValueError as error:
        raise CommandError(f"--tz: {error}", returncode=2) from None
    except UnreadableRecording as error:
        raise CommandError(str(error), returncode=2) from None
    return LoadOptions(
        options["file"],
        options["device"],
        metric,
        zone,
        options["now"],
        options["batch"],
        database,
        format_options,
        has_stated_zone=options["tz"] is not None,
    )


def read_format(options: dict[str, Any]) -> FormatOptions:
    """Return the options of the format. Raises UnreadableRecording."""
    delimiter = options["delimiter"]
    delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise UnreadableRecording("--delimiter: one character such as ; or the word tab is accepted")
    return FormatOptions(
        device=options["device"],
        delimiter=delimiter,
        decimal=options["decimal"],
        dates=options["dates"],
        encoding=options["encoding"] and check_encoding(options["encoding"]),
        missing=frozenset(text.strip() for text in options["missing"]),
        columns=tuple(name.strip() for name in options["columns"].split(",") if name.strip()),
    )


def database_identity() -> str:
    """Return a text that differs between databases, also between one and its successor of the same name."""
    database = connection.settings_dict
    with connection.cursor() as cursor:
        cursor.execute("SELECT oid FROM pg_database WHERE datname = current_database()")
        (oid,) = cursor.fetchone()
    return "\n".join(str(part) for part in (database["HOST"], database["PORT"], database["NAME"], oid))


def summary(options: LoadOptions, result: LoadResult) -> list[str]:
    """Return the lines that describe a finished load."""
    counts = result.counts
    source = "standard input" if options.path == "-" else Path(options.path).name
    lines = [
        f"{source}: {counts.stored:,} points stored, {counts.rejected:,} rows rejected ({result.rate:,.0f} rows/s)"
    ]
    if result.format is not None and (detected := describe_dialect(result.format, result.encoding)):
        lines.append(f"  read as {detected}")
    if result.format is not None and result.format.roles.ignored:
        lines.append(f"  columns that are not loaded: {', '.join(result.format.roles.ignored)}")
    if counts.missing:
        lines.append(f"  {counts.missing:,} cells without a value")
    if result.resumed_rows:
        lines.append(f"  resumed after {result.resumed_rows:,} rows of an earlier run")
    if options.until_now and result.progress.newest is not None:
        end = datetime.fromtimestamp(result.progress.newest / 1e6, UTC)
        again = ", as in an earlier load, since a second copy would overlap the first" if result.is_repeated else ""
        lines.append(f"  shifted to end at {end:%Y-%m-%d %H:%M:%S} UTC{again}")
    lines += [f"  {note}" for note in result.definitions.notes.values()]
    if result.ambiguous:
        lines.append(f"  {result.ambiguous:,} times in the hour that occurs twice in {options.zone}")
    lines += [f"  rejected: {reason}" for reason in counts.reasons()]
    if not options.until_now and any("older than" in reason.text for reason in counts.reasons()):
        lines.append("  (--now shifts a recording so that it ends now)")
    return lines


class ProgressBar:
    """Progress of a load: a bar on a terminal, otherwise a line every few seconds."""

    def __init__(self, out: Any) -> None:
        self._out, self._is_terminal = out, out.isatty()
        self._next = time.monotonic() + (0 if self._is_terminal else LINE_INTERVAL)
        self._is_drawn = False

    def draw(self, result: LoadResult, part: float | None) -> None:
        now = time.monotonic()
        if now < self._next and not (self._is_terminal and part == 1.0):
            return
        self._next = now + (BAR_INTERVAL if self._is_terminal else LINE_INTERVAL)
        counts = result.counts
        line = f"{counts.rows:>12,} rows  {result.rate:>9,.0f} rows/s  {counts.rejected:,} rejected"
        if part is not None:
            filled = "█" * int(part * BAR_WIDTH)
            line = f"{filled:░<{BAR_WIDTH}} {part:4.0%} {line}"
        self._out.write(f"\r{line}" if self._is_terminal else f"{line}\n")
        self._out.flush()
        self._is_drawn = self._is_terminal

    def end(self) -> None:
        if self._is_drawn:
            self._out.write("\n")
