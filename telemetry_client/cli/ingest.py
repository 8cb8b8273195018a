"""`telemetry ingest`: send the events of a file."""

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from telemetry_client.cli.options import on_terminal, open_site, site_command, warn
from telemetry_client.cli.output import emit
from telemetry_client.errors import ClientError

if TYPE_CHECKING:
    from telemetry_client.site import Site

BATCH = 1_000  # events of a request
MAX_SHOWN_ERRORS = 20


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
@click.option(
    "--delay", type=click.FloatRange(0, 3600), default=0.0, help="Seconds between two events, sent one by one."
)
@click.option("--skip", type=click.IntRange(0), default=0, help="Events at the start of the file that are not sent.")
@click.option("--now", is_flag=True, help="Send each event with the time of sending.")
@site_command
def ingest(file: Path, delay: float, skip: int, now: bool) -> None:
    """Send the events of FILE, `-` for standard input.

    The file has a JSON array of events {timestamp, source, type, value, status}, or one event per line. Rejected events
    are listed; the exit code is then 1.
    """
    site = open_site()
    with _open(file) as source:
        events = islice(_read_events(source, str(file)), skip, None)
        total, ingested, failed = 0, 0, 0
        for batch in _progress(_batches(events, 1 if delay else BATCH)):
            if total and delay:
                time.sleep(delay)
            if now:
                batch = [{**event, "timestamp": time.time()} for event in batch]
            try:
                stored, rejected = _send(site, batch, skip + total, failed)
            except ClientError:
                if total:
                    warn(f"{total} events were sent before: continue with --skip {skip + total}")
                raise
            total, ingested, failed = total + len(batch), ingested + stored, failed + rejected
    text = f"{ingested} of {total} events are stored" + (f", {failed} were rejected" if failed else "")
    emit({"total_count": total, "ingested_count": ingested, "failed_count": failed}, text)
    if failed:
        raise click.exceptions.Exit(1)


def _open(file: Path) -> contextlib.AbstractContextManager[IO[str]]:
    from telemetry_client.errors import InvalidInput

    if str(file) == "-":
        return contextlib.nullcontext(sys.stdin)
    try:
        return file.open(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from None


def _read_events(source: IO[str], name: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a JSON array, or of lines. Raises InvalidInput."""
    from telemetry_client.errors import InvalidInput

    try:
        lines = (line for line in source if line.strip())
        first = next(lines, None)
        if first is None:
            raise InvalidInput(f"{name} is empty: a JSON array of events, or one event per line, is accepted")
        if first.lstrip().startswith("["):
            yield from _objects(json.loads(first + source.read()), name, 0)
            return
        try:
            yield from _objects([json.loads(first)], name, 0)
        except json.JSONDecodeError:  # one event over several lines
            yield from _objects([json.loads(first + source.read())], name, 0)
            return
        for number, text in enumerate(lines, 2):
            yield from _objects([json.loads(text)], name, number - 1)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{name} is not valid JSON: {error}") from None


def _objects(values: Any, name: str, offset: int) -> Iterator[dict[str, Any]]:
    from telemetry_client.errors import InvalidInput

    for index, value in enumerate(values, offset):
        if not isinstance(value, dict):
            raise InvalidInput(f"{name}: event {index} must be an object with timestamp, source, type and value")
        yield value


def _batches(events: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(events)
    while batch := list(islice(iterator, size)):
        yield batch


def _send(site: "Site", batch: list[dict[str, Any]], offset: int, failed: int) -> tuple[int, int]:
    """Send a batch; return the number of stored and of rejected events."""
    from telemetry_client.errors import Refused

    try:
        receipt = site.post("/telemetry", batch)
    except Refused as error:
        if error.status not in (400, 422):
            raise
        if not error.errors:
            warn(f"events {offset} to {offset + len(batch) - 1}: {error}")
        errors, stored, rejected = error.errors, 0, len(batch)
    else:
        errors, stored, rejected = receipt["errors"], receipt["ingested_count"], receipt["failed_count"]
    for fault in errors[: max(0, MAX_SHOWN_ERRORS - failed)]:
        warn(f"event {offset + (fault.get('index') or 0)}: {fault.get('field', 'event')}: {fault.get('detail')}")
    return stored, rejected


def _progress(batches: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    if not on_terminal():
        yield from batches
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(), MofNCompleteColumn(), "events", TimeElapsedColumn(), console=Console(stderr=True),
        transient=True,
    ) as progress:  # fmt: skip
        task = progress.add_task("events", total=None)
        for batch in batches:
            yield batch
            progress.advance(task, len(batch))
