"""Measure the anomaly detector on labelled series, in noise and beside simple detectors.

`python -m benchmarks.anomaly DATA …` reads corpora: each DATA is a folder with windows.json and group/name.csv, or a
folder of such folders. Prints tables: windows caught, false alarms per series and month, F1 and delay, of marks and of
notifications; simple detectors at the same number of false alarms; NAB's scores of a corpus named nab; thresholds
chosen on the other corpora (`--folds`); each kind of anomaly in synthetic series; noise; speed and size.
"""

import argparse
import time
from pathlib import Path

from alerts.detector.detector import Detector
from alerts.detector.scoring import MARK_SCORE, NOTIFY_SCORE
from alerts.detector.state import Floats, Ints
from benchmarks.anomaly.baselines import BASELINES
from benchmarks.anomaly.events import Verdict, judge_all, judge_at_false_alarms
from benchmarks.anomaly.kinds import generate_kinds
from benchmarks.anomaly.validation import observe, print_folds, print_variants
from benchmarks.nab import Recording, Spans, measure_speed, print_scores, read_recordings, read_windows
from benchmarks.noise import SHAPES, count_alarms
from benchmarks.report import add_row, log_progress, print_table

THRESHOLDS = {"mark": MARK_SCORE, "notify": NOTIFY_SCORE}
NOISE = {10: (0.25, 0.5), 60: (0.5, 0.5), 300: (1.0, 1.0), 3600: (1.0, 2.0)}  # interval: share of series, of months
Series = list[tuple[Ints, Floats, list[tuple[int, int]]]]


def find_corpora(folders: list[Path]) -> dict[str, Path]:
    """Return the corpora in folders, by name."""
    found = [path.parent for folder in folders for path in [folder / "windows.json", *folder.glob("*/windows.json")]]
    return {folder.name: folder for folder in sorted(found) if (folder / "windows.json").is_file()}


def score(recording: Recording) -> Floats:
    detector = Detector()
    return detector.run(detector.add(), recording.times, recording.values).score


def add_verdict(name: str, threshold: str, verdict: Verdict) -> None:
    add_row(
        name,
        threshold,
        str(verdict.series),
        f"{verdict.caught} of {verdict.windows} ({100 * verdict.recall:.0f} %)",
        f"{verdict.false_per_month:.2f}",
        f"{verdict.f1:.2f}",
        f"{verdict.delay:.0f}",
    )


def print_corpora(corpora: dict[str, tuple[list[Recording], Spans]]) -> None:
    """Print the results of the detector on each corpus, and those of simple detectors."""
    scored = {name: [score(recording) for recording in recordings] for name, (recordings, _) in corpora.items()}
    results = {
        name: [(r.times, s, spans[r.name]) for r, s in zip(recordings, scored[name], strict=True)]
        for name, (recordings, spans) in corpora.items()
    }
    totals = {threshold: Verdict() for threshold in THRESHOLDS}
    verdicts: dict[tuple[str, str], Verdict] = {}
    for name, series in results.items():
        for threshold, cut in THRESHOLDS.items():
            verdicts[name, threshold] = verdict = judge_all(series, cut)
            add_verdict(name, threshold, verdict)
            if name != "nab":
                totals[threshold] += verdict
    for threshold, verdict in totals.items():
        add_verdict("all but nab", threshold, verdict)
    headings = "corpus", "threshold", "series", "caught", "false per series and month", "F1", "delay in rows"
    print_table(*headings)
    for name, (recordings, spans) in corpora.items():
        if name == "nab":
            print_scores(recordings, scored[name], spans)
    for name, (recordings, spans) in corpora.items():
        own = [verdicts[name, threshold] for threshold in THRESHOLDS]
        cells = [f"{100 * verdict.recall:.0f} %" for verdict in own]
        add_row(
            name, "the detector", *(text for cell, v in zip(cells, own, strict=True) for text in (cell, str(v.false)))
        )
        for baseline, function in BASELINES.items():
            series = [(r.times, function(r.times, r.values), spans[r.name]) for r in recordings]
            at = [judge_at_false_alarms(series, verdict.false) for verdict in own]
            add_row(name, baseline, *(text for v in at for text in (f"{100 * v.recall:.0f} %", str(v.false))))
    print_table("corpus", "detector", "caught, with the false alarms of marks", "false", "… of notifications", "false")


def print_kinds(seed: int, number: int) -> None:
    """Print the results of each kind of synthetic series."""
    kinds: dict[str, Series] = {}
    for one in generate_kinds(seed, number):
        detector = Detector()
        detection = detector.run(detector.add(), one.times, one.values)
        kinds.setdefault(one.kind, []).append((one.times, detection.score, one.windows))
    for kind, series in kinds.items():
        cells = []
        for cut in THRESHOLDS.values():
            verdict = judge_all(series, cut)
            caught = f"{100 * verdict.recall:.0f} %" if verdict.windows else "–"
            cells += [caught, f"{verdict.false_per_month:.2f}"]
        add_row(kind, *cells)
    print_table("kind", "marked", "false marks per month", "notified", "false notifications per month")


def print_noise(months: float, number: int) -> None:
    """Print notifications and marks in noise of each shape, at each interval."""
    for interval, (share, length) in NOISE.items():
        began = time.perf_counter()
        days = 30 * months * length
        marks, notifications = count_alarms(interval, days, max(1, round(number * share)), seed=1)
        log_progress(f"{interval} s: {marks.shape[1]} series of each shape, {time.perf_counter() - began:.0f} s")
        for shape, mark, notify in zip(SHAPES, marks, notifications, strict=True):
            rates = notify.mean() * 30 / days, mark.mean() * 30 / days
            add_row(shape.__name__, f"{interval} s", f"{days:.0f}", *_noise_cells(rates, int(notify.max())))
    print_table("noise", "every", "days", "notifications per series and month", "worst series", "marks per month")


def _noise_cells(rates: tuple[float, float], worst: int) -> tuple[str, str, str]:
    return f"{rates[0]:.2f}", str(worst), f"{rates[1]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.anomaly", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="*", help="folders of corpora")
    parser.add_argument("--folds", action="store_true", help="choose thresholds on the other corpora")
    parser.add_argument("--variants", action="store_true", help="halve and double constants, leave out views")
    parser.add_argument("--kinds", type=int, default=8, help="synthetic series of each kind; 0: none")
    parser.add_argument("--noise", type=int, default=16, help="series of each shape of noise at 5 minutes; 0: none")
    parser.add_argument("--months", type=float, default=1.0, help="months of noise")
    parser.add_argument("--no-speed", action="store_true", help="do not measure speed")
    arguments = parser.parse_args()
    corpora = {}
    for name, folder in find_corpora(arguments.data).items():
        spans = read_windows(folder) or {}
        corpora[name] = [one for one in read_recordings(folder) if one.name in spans], spans
    if arguments.data and not corpora:
        parser.error("no windows.json in DATA")
    if corpora and (arguments.folds or arguments.variants):
        observed = observe(corpora)
        if arguments.folds:
            print_folds(corpora, observed)
        if arguments.variants:
            print_variants(corpora, observed)
    elif corpora:
        print_corpora(corpora)
    if arguments.kinds:
        print_kinds(seed=1, number=arguments.kinds)
    if arguments.noise:
        print_noise(arguments.months, arguments.noise)
    if not arguments.no_speed:
        measure_speed()


if __name__ == "__main__":
    main()
