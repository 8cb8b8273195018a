"""The entry point: generate a fleet's points to a file or to a site, as fast as possible or at a speed."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from telemetry_client.simulator.drivers import MINUTE, SECOND
from telemetry_client.simulator.encoders import ENCODERS, encode_labels
from telemetry_client.simulator.events import Arrival, arrivals
from telemetry_client.simulator.fleet import Fleet
from telemetry_client.simulator.progress import ProgressCallback, RunResult, SimulatorError, ignore_progress
from telemetry_client.simulator.registration import register_fleet
from telemetry_client.simulator.schedule import Rates
from telemetry_client.simulator.site_connection import SiteConnection
from telemetry_client.simulator.site_writer import SiteWriter
from telemetry_client.simulator.writers import STANDARD_OUTPUT, FileWriter, Writer

DEFAULT_DURATION = 86_400.0  # seconds
COUNT_MARGIN = 1.1  # of the time that a number of points needs, since outages leave some out
LONGEST_COUNT_RUN = 20
SEND_PERIOD = 10 * MINUTE  # of devices in a run without a speed: fewer, larger batches
FLUSH_INTERVAL = 0.2  # seconds that points wait for others in a run with a speed
PROGRESS_INTERVAL = 0.2  # seconds


def generate(
    *,
    output: str | None = None,
    file_format: str | None = None,
    site: str | None = None,
    key: str = "",
    register: bool = False,
    seed: int = 1,
    devices: int = 10,
    start: float | None = None,
    duration: float | None = None,
    interval: float = 60.0,
    speed: float | None = None,
    count: int | None = None,
    labels: str | None = None,
    prefix: str = "sim-",
    types: tuple[str, ...] = (),
    rates: Rates | None = None,
    connections: int = 4,
    batch: int = 5000,
    on_progress: ProgressCallback = ignore_progress,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> RunResult:
    """Generate the points that a fleet sends, and return the counts. Raises SimulatorError with a message for the user.

    output, file_format  a file (- is standard output), as `json`, `jsonl` or `csv`; by default as its name ends
    site, key            or the URL of a site and an API key with scope ingest or admin
    register             first define the metrics, groups and devices at the site; the key needs scope admin
    start                seconds since 1970; by default such that the run ends now or, with a speed, reaches the present
    duration             simulated seconds; by default a day, or with `count` as long as needed
    interval             seconds between the measurements of a device
    speed                simulated seconds per second (1: real time); None: as fast as possible
    count                number of points after which the run ends
    labels               file for the labels of faults and outages, as JSON lines
    """
    if (output is None) == (site is None):
        raise SimulatorError("either an output file or the URL of a site is required")
    fleet = _make_fleet(seed, devices, interval, prefix, types, rates)
    first, last = _find_range(fleet, start, duration, speed, count, clock)
    result = RunResult()
    writer: Writer
    if site is not None:
        writer = SiteWriter(site, key, result, connections, batch, sleep)
        if register:
            _register(fleet, SiteConnection(site, key, sleep))
    else:
        writer = FileWriter(output or STANDARD_OUTPUT, _find_format(output or "", file_format))
    with writer:
        run = _Run(writer, result, on_progress, speed, clock, sleep)
        run.write_all(fleet, first, last, count)
    if labels is not None:
        begin = first if result.measured_from is None else result.measured_from
        result.labels = _write_labels(fleet, begin, max(result.simulated_until, begin + 1), labels)
    result.fraction = 1.0
    result.update_time()
    on_progress(result)
    return result


def _make_fleet(
    seed: int, devices: int, interval: float, prefix: str, types: tuple[str, ...], rates: Rates | None
) -> Fleet:
    try:
        fleet = Fleet(seed, devices, interval, prefix, rates or Rates())
        return Fleet(seed, devices, interval, prefix, fleet.rates, types) if types else fleet
    except ValueError as error:
        raise SimulatorError(str(error)) from None


def _find_range(
    fleet: Fleet,
    start: float | None,
    duration: float | None,
    speed: float | None,
    count: int | None,
    clock: Callable[[], float],
) -> tuple[int, int]:
    """Return the range of the run in ms."""
    if speed is not None and not 0 < speed <= 1e6:
        raise SimulatorError("speed must be over 0, at most 1000000: simulated seconds per second")
    if count is not None and count < 1:
        raise SimulatorError("count must be at least 1 point")
    length = duration
    if duration is None:
        duration = DEFAULT_DURATION
        if count is not None:
            duration = COUNT_MARGIN * 86_400 * count / fleet.points_per_day + 2 * fleet.interval
            length = LONGEST_COUNT_RUN * duration  # it ends with the last point
    if not 0 < duration <= 100 * 366 * 86_400:
        raise SimulatorError("duration must be over 0 seconds, at most 100 years")
    if start is None:
        start = clock() - duration * (1 - 1 / speed if speed is not None else 1)
    if not 0 <= start <= 4e9:
        raise SimulatorError("start must be 0 to 4000000000 seconds since 1970")
    first = round(start * SECOND)
    return first, first + max(round((length or duration) * SECOND), 1)


def _find_format(output: str, file_format: str | None) -> str:
    ending = output.removesuffix(".gz").rpartition(".")[2]
    chosen = file_format or {"ndjson": "jsonl"}.get(ending, ending)
    if chosen not in ENCODERS:
        accepted = ", ".join(ENCODERS)
        raise SimulatorError(f"format must be one of {accepted}, or the end of the file name, such as points.csv.gz")
    return chosen


def _register(fleet: Fleet, connection: SiteConnection) -> None:
    with closing(connection):
        register_fleet(fleet, connection)


def _write_labels(fleet: Fleet, start: int, end: int, path: str) -> int:
    number = 0
    try:
        with Path(path).open("w") as file:
            for line in encode_labels(fleet.labels(start, end)):
                file.write(line)
                number += 1
    except OSError as error:
        raise SimulatorError(f"{path} cannot be written: {error.strerror}") from None
    return number


class _Run:
    """Passes arrivals to a writer when they are due."""

    def __init__(
        self,
        writer: Writer,
        result: RunResult,
        on_progress: ProgressCallback,
        speed: float | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._writer, self._result, self._on_progress = writer, result, on_progress
        self._speed, self._clock, self._sleep = speed, clock, sleep
        self._shown_at = self._flushed_at = float("-inf")

    def write_all(self, fleet: Fleet, first: int, last: int, count: int | None) -> None:
        """Write the arrivals from `first` to before `last` (ms), at most `count` points."""
        began = self._clock()
        send_every = fleet.interval_ms
        if self._speed is None:
            send_every *= max(SEND_PERIOD // send_every, 1)
        for arrival in arrivals(fleet, first, last, send_every):
            if self._speed is not None:
                self._wait_until(began + (arrival.at - first) / (SECOND * self._speed))
            self._write(arrival, count)
            self._result.fraction = (arrival.at - first) / (last - first)
            if count is not None:
                self._result.fraction = self._result.points / count
                if self._result.points >= count:
                    return
            self._show_progress()

    def _wait_until(self, due: float) -> None:
        if due - self._clock() > FLUSH_INTERVAL or self._clock() - self._flushed_at > FLUSH_INTERVAL:
            self._writer.flush()
            self._flushed_at = self._clock()
        while (wait := due - self._clock()) > 0:
            self._sleep(min(wait, PROGRESS_INTERVAL))
            self._show_progress()

    def _write(self, arrival: Arrival, count: int | None) -> None:
        limit = None if count is None else count - self._result.points
        self._result.points += self._writer.write(arrival, limit)
        self._result.late_batches += arrival.is_late
        self._result.simulated_until = arrival.at
        measured = min(int(column.true_times[0]) for column in arrival.columns)
        known = self._result.measured_from
        self._result.measured_from = measured if known is None else min(measured, known)

    def _show_progress(self) -> None:
        now = time.monotonic()
        if now - self._shown_at >= PROGRESS_INTERVAL:
            self._shown_at = now
            self._result.update_time()
            self._on_progress(self._result)
