"""`telemetry export`: points as a file."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from telemetry_client.cli.options import MOMENT, on_terminal, open_site, site_command, warn
from telemetry_client.cli.output import PipeClosed, emit


def _escaped(names: tuple[str, ...]) -> str | None:
    """Return names as a parameter, in which a comma of a name is escaped."""
    return ",".join(name.replace(",", "\\,") for name in names) or None


@click.command()
@click.option("--device", "devices", multiple=True, required=True, help="Device ID; may be repeated.")
@click.option("--metric", "metrics", multiple=True, required=True, help="Metric name; may be repeated.")
@click.option("--since", type=MOMENT, default="1d", show_default=True, help="Start of the time range.")
@click.option("--until", type=MOMENT, default="now", show_default=True, help="End of the time range.")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl", "parquet"]), default="csv", show_default=True)
@click.option("--aggregation", help="avg, min, max, sum, count, …")
@click.option("--interval", help="Seconds of a time bucket, `auto` or `range`; with --aggregation.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File; standard output by default."
)
@site_command
def export(
    devices: tuple[str, ...],
    metrics: tuple[str, ...],
    since: str,
    until: str,
    form: str,
    aggregation: str | None,
    interval: str | None,
    output: Path | None,
) -> None:
    """Export points as CSV, JSON lines or Parquet.

    A file is replaced when the export is complete.
    """
    parts = open_site().download(
        "export/csv", device_ids=_escaped(devices), metric_names=_escaped(metrics), start_time=since, end_time=until,
        format=form, aggregation=aggregation, interval=interval,
    )  # fmt: skip
    if output is None:
        _copy(parts)
        return
    size = _save(parts, output)
    emit({"file": str(output), "bytes": size}, f"{output} is written, {size} bytes")


def _copy(parts: Iterator[bytes]) -> None:
    if sys.stdout.isatty():
        warn("standard output is a terminal: -o FILE writes a file")
    try:
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise PipeClosed from None


def _save(parts: Iterator[bytes], output: Path) -> int:
    """Write a file that appears when it is complete; return its size."""
    from telemetry_client.errors import InvalidInput

    partial = output.with_name(f".{output.name}.{os.getpid()}.part")
    size = 0
    try:
        with partial.open("wb") as file:
            for part in _with_progress(parts, output.name):
                size += file.write(part)
        partial.replace(output)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return size


def _with_progress(parts: Iterator[bytes], name: str) -> Iterator[bytes]:
    if not on_terminal():
        yield from parts
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)
        for part in parts:
            progress.advance(task, len(part))
            yield part
