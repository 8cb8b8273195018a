"""The detector of anomalies over recordings in the format of the Numenta Anomaly Benchmark, by the code of rules.

`python benchmarks/nab.py INPUT OUTPUT` writes OUTPUT/group/name.csv (timestamp, value, anomaly_score) for each
INPUT/group/name.csv (timestamp, value), and prints the score by the published rules where there are windows: in
windows.json or labels/combined_windows.json, within INPUT or beside it. `--noise` counts what is told of noise in which
nothing happens, `--speed` measures points a second and bytes of a series.
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
from typing import Final

import numpy as np

if __package__ in (None, ""):  # run as a file: its folder is where modules would be looked for
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from alerts.detector.detector import MARK_SCORE, NOTIFY_SCORE, Detector
from alerts.detector.state import RECORD, Floats, Ints
from benchmarks.figures import note, say, table
from benchmarks.nab_score import PROFILES, Tally, tally
from benchmarks.noise import SHAPES, alarms

WINDOWS: Final = ("windows.json", "labels/combined_windows.json")
MONTH: Final = 30  # days
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Spans = dict[str, list[tuple[int, int]]]  # first and last time of windows, by group/name.csv


@dataclass(slots=True)
class Recording:
    """A file: its rows as they stand there, and as numbers."""

    name: str  # group/name.csv
    rows: list[tuple[str, str]]
    times: Ints  # µs since 1970
    values: Floats


def microseconds(text: str) -> int:
    """A time in ISO 8601, of UTC where it does not say."""
    moment = datetime.fromisoformat(text)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def recordings(folder: Path) -> list[Recording]:
    """All INPUT/group/name.csv, by name."""
    found = []
    for path in sorted(folder.glob("*/*.csv")):
        with path.open(newline="") as lines:
            rows = [(row["timestamp"], row["value"]) for row in csv.DictReader(lines)]
        times = np.array([microseconds(stamp) for stamp, _ in rows], np.int64)
        values = np.array([float(value) for _, value in rows], np.float64)
        found.append(Recording(f"{path.parent.name}/{path.name}", rows, times, values))
    return found


def windows(folder: Path) -> Spans | None:
    """Where anomalies are labelled, if anything says so."""
    for path in (place / name for place in (folder, folder.parent) for name in WINDOWS):
        if path.is_file():
            return {
                name: [(microseconds(first), microseconds(last)) for first, last in spans]
                for name, spans in json.loads(path.read_text()).items()
            }
    return None


def judged(found: list[Recording]) -> list[Floats]:
    """Scores of each row: the recordings side by side, a row of each at a time."""
    detector = Detector(len(found))
    slots = np.array([detector.add() for _ in found], np.int64)
    lengths = np.array([len(recording.times) for recording in found], np.int64)
    scores = [np.zeros(length) for length in lengths]
    for row in range(max(lengths, default=0)):
        alive = np.flatnonzero(lengths > row)
        times = np.array([found[place].times[row] for place in alive])
        values = np.array([found[place].values[row] for place in alive])
        judgement = detector.step(slots[alive], times, values)
        for place, score in zip(alive, judgement.score, strict=True):
            scores[place][row] = score
    return scores


def write(recording: Recording, scores: Floats, folder: Path) -> None:
    path = folder / recording.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(("timestamp", "value", "anomaly_score"))
        writer.writerows((*row, f"{score:.6f}") for row, score in zip(recording.rows, scores, strict=True))


def tallies(found: list[Recording], scores: list[Floats], spans: Spans, threshold: float) -> dict[str, Tally]:
    """What came of the alarms at a threshold, by group; recordings without an entry are left out."""
    groups: dict[str, Tally] = defaultdict(Tally)
    for recording, score in zip(found, scores, strict=True):
        if recording.name in spans:
            groups[recording.name.split("/")[0]] += tally(recording.times, score >= threshold, spans[recording.name])
    return groups


def tell(found: list[Recording], scores: list[Floats], spans: Spans) -> None:
    """The table of groups, and of all."""
    marked, notified = (tallies(found, scores, spans, threshold) for threshold in (MARK_SCORE, NOTIFY_SCORE))
    groups = [*((name, marked[name], notified[name]) for name in marked)]
    groups.append(("all", sum(marked.values(), Tally()), sum(notified.values(), Tally())))
    for name, mark, notify in groups:
        normal = [mark.score(profile) for profile in PROFILES]
        say(
            name,
            f"{len(mark.caught)} of {mark.windows}",
            str(len(mark.false_alarms)),
            *("–" if score is None else f"{score:.1f}" for score in normal),
            f"{len(notify.caught)} of {notify.windows}",
            str(len(notify.false_alarms)),
        )
    names = [profile.name for profile in PROFILES]
    table("group", "caught at MARK_SCORE", "false", *names, "caught at NOTIFY_SCORE", "false")


def noise(months: float, series: int) -> None:
    """False marks and notifications a series and month, of each shape, at two intervals."""
    for interval, share in ((300, 1.0), (10, 0.25)):
        began = time.perf_counter()
        marks, notifications = alarms(interval, months * MONTH, max(1, int(series * share)), seed=1)
        note(f"{interval} s: {marks.shape[1]} series of each shape, {time.perf_counter() - began:.0f} s")
        for shape, mark, notify in zip(SHAPES, marks, notifications, strict=True):
            rates = f"{notify.mean() / months:.2f}", f"{notify.max() / months:.1f}", f"{mark.mean() / months:.0f}"
            say(f"{shape.__name__}, every {interval} s", *rates)
    table("noise", "notifications a series and month", "of the worst series", "marks a series and month")


def speed() -> None:
    """Points a second of one core, by how many series advance together."""
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
        say(f"{series} series", rate, of_core, f"{RECORD.itemsize:,}", f"{state:,}")
    table("series together", "points/s", "points/s of processor time", "bytes a series", "bytes dumped")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, nargs="?", help="folder of recordings: group/name.csv")
    parser.add_argument("output", type=Path, nargs="?", help="folder for the results")
    parser.add_argument("--noise", action="store_true", help="what is told of noise")
    parser.add_argument("--months", type=float, default=1.0, help="of noise")
    parser.add_argument("--series", type=int, default=8, help="of each shape of noise; a quarter of them every 10 s")
    parser.add_argument("--speed", action="store_true", help="points a second, bytes of a series")
    asked = parser.parse_args()
    if asked.noise:
        noise(asked.months, asked.series)
    if asked.speed:
        speed()
    if asked.input is None or asked.output is None:
        if not (asked.noise or asked.speed):
            parser.error("INPUT and OUTPUT are folders, or --noise or --speed is asked for")
        return
    found = recordings(asked.input)
    if not found:
        parser.error(f"INPUT has no recordings: {asked.input}/group/name.csv")
    scores = judged(found)
    for recording, score in zip(found, scores, strict=True):
        write(recording, score, asked.output)
    if spans := windows(asked.input):
        tell(found, scores, spans)


if __name__ == "__main__":
    main()
