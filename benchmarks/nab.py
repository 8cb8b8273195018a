"""Score the anomaly detector on recordings in the format of the Numenta Anomaly Benchmark (NAB).

`python benchmarks/nab.py INPUT OUTPUT` writes OUTPUT/group/name.csv (timestamp, value, anomaly_score) for each
INPUT/group/name.csv (timestamp, value). It prints the score by the published rules if labelled windows exist: in
windows.json or labels/combined_windows.json, within INPUT or beside it. `--noise` counts alarms in stationary noise,
`--speed` measures points per second and bytes per series.
"""

import argparse
import csv
import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

if __package__ in (None, ""):  # run as a file: import from the repository instead of from this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from alerts.detector.detector import Detector
from alerts.detector.scoring import MARK_SCORE, NOTIFY_SCORE
from alerts.detector.state import RECORD, Floats, Ints
from benchmarks.nab_score import PROFILES, AlarmScore, score_alarms
from benchmarks.noise import SHAPES, count_alarms
from benchmarks.report import add_row, log_progress, print_table

WINDOW_FILES = ("windows.json", "labels/combined_windows.json")
MONTH = 30  # days
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Spans = dict[str, list[tuple[int, int]]]  # (first, last) time of each window


@dataclass(slots=True)
class Recording:
    """Recording with its rows as text and as numbers."""

    name: str  # group/name.csv
    rows: list[tuple[str, str]]
    times: Ints  # µs since 1970
    values: Floats


def parse_time(text: str) -> int:
    """Return an ISO 8601 time in µs since 1970; UTC unless it has an offset."""
    moment = datetime.fromisoformat(text)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def read_recordings(folder: Path) -> list[Recording]:
    """Read all recordings, sorted by name."""
    recordings = []
    for path in sorted(folder.glob("*/*.csv")):
        with path.open(newline="") as lines:
            rows = [(row["timestamp"], row["value"]) for row in csv.DictReader(lines)]
        times = np.array([parse_time(stamp) for stamp, _ in rows], np.int64)
        values = np.array([float(value) for _, value in rows], np.float64)
        recordings.append(Recording(f"{path.parent.name}/{path.name}", rows, times, values))
    return recordings


def read_windows(folder: Path) -> Spans | None:
    """Read the labelled windows, or return None if there are none."""
    for path in (parent / name for parent in (folder, folder.parent) for name in WINDOW_FILES):
        if path.is_file():
            return {
                name: [(parse_time(first), parse_time(last)) for first, last in spans]
                for name, spans in json.loads(path.read_text()).items()
            }
    return None


def compute_scores(recordings: list[Recording]) -> list[Floats]:
    """Return the score of each row; all recordings are evaluated side by side, one row of each at a time."""
    detector = Detector(len(recordings))
    slots = np.array([detector.add() for _ in recordings], np.int64)
    lengths = np.array([len(recording.times) for recording in recordings], np.int64)
    scores = [np.zeros(length) for length in lengths]
    for row in range(max(lengths, default=0)):
        active = np.flatnonzero(lengths > row)
        times = np.array([recordings[index].times[row] for index in active])
        values = np.array([recordings[index].values[row] for index in active])
        result = detector.step(slots[active], times, values)
        for index, score in zip(active, result.score, strict=True):
            scores[index][row] = score
    return scores


def write_scores(recording: Recording, scores: Floats, folder: Path) -> None:
    path = folder / recording.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(("timestamp", "value", "anomaly_score"))
        writer.writerows((*row, f"{score:.6f}") for row, score in zip(recording.rows, scores, strict=True))


def score_groups(
    recordings: list[Recording], scores: list[Floats], spans: Spans, threshold: float
) -> dict[str, AlarmScore]:
    """Return the score per group of alarms at a threshold, without recordings that have no labels."""
    groups: dict[str, AlarmScore] = defaultdict(AlarmScore)
    for recording, score in zip(recordings, scores, strict=True):
        if recording.name in spans:
            groups[recording.name.split("/")[0]] += score_alarms(
                recording.times, score >= threshold, spans[recording.name]
            )
    return groups


def print_scores(recordings: list[Recording], scores: list[Floats], spans: Spans) -> None:
    """Print the scores of the groups and the total."""
    marked, notified = (score_groups(recordings, scores, spans, threshold) for threshold in (MARK_SCORE, NOTIFY_SCORE))
    groups = [*((name, marked[name], notified[name]) for name in marked)]
    groups.append(("all", sum(marked.values(), AlarmScore()), sum(notified.values(), AlarmScore())))
    for name, mark, notify in groups:
        normal = [mark.score(profile) for profile in PROFILES]
        add_row(
            name,
            f"{len(mark.caught)} of {mark.windows}",
            str(len(mark.false_alarms)),
            *("–" if score is None else f"{score:.1f}" for score in normal),
            f"{len(notify.caught)} of {notify.windows}",
            str(len(notify.false_alarms)),
        )
    names = [profile.name for profile in PROFILES]
    print_table(
        "group", "caught at mark threshold", "false alarms", *names, "caught at notify threshold", "false alarms"
    )


def measure_noise(months: float, series: int) -> None:
    """Count false marks and notifications per series and month in noise of each shape, at two intervals."""
    for interval, share in ((300, 1.0), (10, 0.25)):
        began = time.perf_counter()
        marks, notifications = count_alarms(interval, months * MONTH, max(1, int(series * share)), seed=1)
        log_progress(f"{interval} s: {marks.shape[1]} series of each shape, {time.perf_counter() - began:.0f} s")
        for shape, mark, notify in zip(SHAPES, marks, notifications, strict=True):
            rates = f"{notify.mean() / months:.2f}", f"{notify.max() / months:.1f}", f"{mark.mean() / months:.0f}"
            add_row(f"{shape.__name__}, every {interval} s", *rates)
    print_table("noise", "notifications per series and month", "worst series", "marks per series and month")


def measure_speed() -> None:
    """Measure points per second of one core by the number of series evaluated together."""
    rng = np.random.default_rng(1)
    for series in (1, 64, 512, 4096):
        detector, rows = Detector(series), max(20, min(2_000, 60_000 // series))
        slots = np.array([detector.add() for _ in range(series)])
        times = 300_000_000 * np.arange(400 + rows)
        values = 50 + 10 * np.sin(np.arange(400 + rows) / 46)[:, None] + rng.normal(0, 2, (400 + rows, series))
        for row in range(400 + rows):
            if row == 400:
                began, spent = time.perf_counter(), time.process_time()
            detector.step(slots, np.full(series, times[row]), values[row])
        clock, core = time.perf_counter() - began, time.process_time() - spent
        state = max(len(detector.dump(slot)) for slot in slots[:64].tolist())
        rate, of_core = f"{rows * series / clock:,.0f}", f"{rows * series / core:,.0f}"
        add_row(f"{series} series", rate, of_core, f"{RECORD.itemsize:,}", f"{state:,}")
    print_table("series evaluated together", "points/s", "points/s of CPU time", "bytes per series", "bytes stored")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, nargs="?", help="folder of recordings: group/name.csv")
    parser.add_argument("output", type=Path, nargs="?", help="folder for the results")
    parser.add_argument("--noise", action="store_true", help="count alarms in noise")
    parser.add_argument("--months", type=float, default=1.0, help="months of noise")
    parser.add_argument(
        "--series", type=int, default=8, help="series per shape of noise at 5 minutes; a quarter of them at 10 s"
    )
    parser.add_argument("--speed", action="store_true", help="measure points per second and bytes per series")
    arguments = parser.parse_args()
    if arguments.noise:
        measure_noise(arguments.months, arguments.series)
    if arguments.speed:
        measure_speed()
    if arguments.input is None or arguments.output is None:
        if not (arguments.noise or arguments.speed):
            parser.error("INPUT and OUTPUT are required unless --noise or --speed is given")
        return
    recordings = read_recordings(arguments.input)
    if not recordings:
        parser.error(f"no recordings in INPUT: {arguments.input}/group/name.csv")
    scores = compute_scores(recordings)
    for recording, score in zip(recordings, scores, strict=True):
        write_scores(recording, score, arguments.output)
    if spans := read_windows(arguments.input):
        print_scores(recordings, scores, spans)


if __name__ == "__main__":
    main()
