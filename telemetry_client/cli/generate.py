"""`telemetry generate`: points of a simulated fleet, into a file or to the site."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from telemetry_client.cli.options import DURATION, MOMENT, on_terminal, open_site, site_command, warn
from telemetry_client.cli.output import PipeClosed, emit, expect_reader

if TYPE_CHECKING:
    from telemetry_client.simulator.progress import ProgressCallback, RunResult

DEFAULT_COUNT = 1000  # points of a file, as in the alerting document
REGISTER_HINT = "--register defines the simulated metrics first"


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
@click.option("--to-site", is_flag=True, help="Send to the site instead of writing a file.")
@click.option("--count", type=click.IntRange(1), help=f"Number of points; {DEFAULT_COUNT} without --duration.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same fleet.")
@click.option("--devices", type=click.IntRange(1, 1_000_000), default=10, show_default=True, help="Size of the fleet.")
@click.option("--start", type=MOMENT, help="Time of the first points; by default the last ones are of now.")
@click.option("--duration", type=DURATION, help="Simulated time.")
@click.option("--interval", type=DURATION, default="60s", show_default=True, help="Between two points of a metric.")
@click.option("--speed", type=float, help="Simulated seconds per second, 1 for real time; by default no limit.")
@click.option("--labels", type=click.Path(dir_okay=False), help="File for the simulated faults, as JSON lines.")
@click.option("--register", is_flag=True, help="With --to-site: first define metrics, groups and devices.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@site_command
def generate(
    file: Path | None,
    to_site: bool,
    count: int | None,
    seed: int,
    devices: int,
    start: str | None,
    duration: float | None,
    interval: float,
    speed: float | None,
    labels: str | None,
    register: bool,
    force: bool,
) -> None:
    """Write the points of a simulated fleet to FILE (.json, .jsonl or .csv, also .gz; - for standard output).

    The fleet has daily and weekly cycles, faults, outages, wrong clocks and points that arrive late.
    """
    from datetime import datetime

    from telemetry_client.errors import ClientError, InvalidInput
    from telemetry_client.simulator.generate import generate as run
    from telemetry_client.simulator.progress import SimulatorError, ignore_progress

    if (file is None) != to_site:
        raise InvalidInput("either FILE or --to-site is required")
    if register and not to_site:
        raise InvalidInput("--register requires --to-site")
    is_stdout = str(file) == "-"
    if file is not None and not is_stdout and file.exists() and not force:
        raise InvalidInput(f"{file} exists: --force replaces it")
    site = open_site() if to_site else None
    with ExitStack() as ending:
        show = _expect_reader if is_stdout else ignore_progress
        try:
            result = run(
                output=None if file is None else str(file),
                file_format="json" if is_stdout else None,
                site=None if site is None else site.url,
                key="" if site is None else site.credential(),
                register=register,
                seed=seed,
                devices=devices,
                start=None if start is None else datetime.fromisoformat(start).timestamp(),
                duration=duration,
                interval=interval,
                speed=speed,
                count=DEFAULT_COUNT if count is None and duration is None else count,
                labels=labels,
                on_progress=_progress(ending) if on_terminal() and not is_stdout else show,
            )
        except SimulatorError as error:
            raise ClientError(str(error)) from None
        except BrokenPipeError:
            raise PipeClosed from None
    if not is_stdout:
        _report(result, "the site" if file is None else str(file), seed)


def _expect_reader(_: "RunResult") -> None:
    expect_reader()


def _progress(ending: ExitStack) -> "ProgressCallback":
    from rich.console import Console
    from rich.progress import Progress

    bar = ending.enter_context(Progress(console=Console(stderr=True), transient=True))
    task = bar.add_task("points", total=1.0)

    def show(result: "RunResult") -> None:
        bar.update(task, completed=result.fraction, description=f"{result.points:,} points, {result.rate:,.0f}/s")

    return show


def _report(result: "RunResult", target: str, seed: int) -> None:
    from telemetry_client.errors import ClientError

    counts = {"target": target, "count": result.points, "rejected": result.rejected, "seed": seed}
    emit(counts, f"{result.points:,} points to {target}, {result.rate:,.0f} per second")
    if result.rejected:
        warn(REGISTER_HINT)
        raise ClientError(f"the site rejected {result.rejected:,} points, the first one: {result.first_rejection}")
