"""`telemetry generate`: a file of simulated events in the format of `telemetry ingest`."""

import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from telemetry_client.cli.options import site_command
from telemetry_client.cli.output import emit, write

METRICS = {"temperature": (70.0, 8.0), "pressure": (1.2, 0.1), "humidity": (45.0, 10.0), "vibration": (0.3, 0.1)}
SENSORS = 5
DAY = 86_400
FAULT_SHARE = 0.02  # events that are far from the usual
STEP = 1.0  # seconds between two events


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
@click.option("--count", type=click.IntRange(1, 10_000_000), default=1000, show_default=True, help="Number of events.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same values.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@site_command
def generate(file: Path, count: int, seed: int, force: bool) -> None:
    """Write simulated events to FILE, `-` for standard output.

    The events are of the last COUNT seconds.
    """
    from telemetry_client.errors import InvalidInput

    start = math.floor(time.time()) - count * STEP
    parts = (json.dumps(event) for event in simulate(count, seed, start))
    if str(file) == "-":
        for index, text in enumerate(parts):
            write(("[\n" if index == 0 else ",\n") + text)
        write("\n]\n")
        return
    try:
        with file.open("w" if force else "x", encoding="utf-8") as output:
            output.writelines(("[\n" if index == 0 else ",\n") + text for index, text in enumerate(parts))
            output.write("\n]\n")
    except FileExistsError:
        raise InvalidInput(f"{file} exists: --force replaces it") from None
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}") from None
    emit({"file": str(file), "count": count, "seed": seed}, f"{file} is written, {count} events")


def simulate(count: int, seed: int, start: float) -> Iterator[dict[str, Any]]:
    """Yield events of a few sensors, one per second: a daily cycle, noise and some faults."""
    randomness = random.Random(seed)  # noqa: S311
    names = list(METRICS)
    for index in range(count):
        moment = start + index * STEP
        sensor, metric = index % SENSORS, names[index // SENSORS % len(names)]
        middle, spread = METRICS[metric]
        fault = randomness.random() < FAULT_SHARE
        value = middle + spread * (math.sin(2 * math.pi * moment / DAY) + randomness.gauss(0, 0.3) + 4 * fault)
        yield {
            "timestamp": moment,
            "source": f"sensor_{sensor + 1:03}",
            "type": metric,
            "value": round(value, 3),
            "status": "FAULT" if fault else "OK",
        }
