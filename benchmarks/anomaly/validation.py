"""Choose thresholds without a corpus, and change constants one at a time: does the result hold elsewhere?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from types import ModuleType

import numpy as np

from alerts.detector import changes as changes_module
from alerts.detector import scoring
from alerts.detector.changes import Changes, measure_changes_along
from alerts.detector.detector import Detector
from alerts.detector.scoring import MARK_SCORE, NOTIFY_SCORE, THRESHOLDS, Surprises, Thresholds, mark_along, weigh
from alerts.detector.sensitivity import notifies
from alerts.detector.state import RECORD, Floats, Ints
from benchmarks.anomaly.events import Verdict, judge_all
from benchmarks.nab import Recording, Spans
from benchmarks.nab_score import PROFILES, AlarmScore, score_alarms
from benchmarks.report import add_row, log_progress, print_table

Corpora = dict[str, tuple[list[Recording], Spans]]
Observation = tuple[Recording, Ints, Ints, Changes, Surprises]
MAX_FALSE = 0.5  # notifications per series and month
FOLD_CHOICES = [
    Thresholds(mark_surprise=surprise, mark_change=change, notify_change=notify)
    for surprise in (12.0, 13.5, 15.0)
    for change in (1.6, 1.9, 2.2)
    for notify in (2.2, 2.4, 2.65, 2.9, 3.2)
]
CONSTANTS: list[tuple[ModuleType, str]] = [
    (changes_module, name)
    for name in (
        "CLIP",
        "MEMORY",
        "MEMORY_POINTS",
        "TAIL",
        "MAX_TAIL",
        "PRIOR",
        "MIN_USUAL",
        "EPISODE_POINTS",
        "EPISODE_TIME",
        "YOUNG",
        "RESET_POINTS",
        "RESET_SHARE",
        "GAP_INTERVALS",
    )
] + [(scoring, name) for name in ("MARK_REST_POINTS", "MARK_REST", "MIN_NOTIFY_POINTS", "MIN_NOTIFY_AGE")]


def observe(corpora: Corpora) -> dict[str, list[Observation]]:
    """Run the detector as far as thresholds do not matter."""
    observed: dict[str, list[Observation]] = {}
    for name, (recordings, _) in corpora.items():
        for recording in recordings:
            detector = Detector()
            parts = detector.observe(detector.add(), recording.times, recording.values)
            observed.setdefault(name, []).append((recording, *parts))
        log_progress(name)
    return observed


def score(observation: Observation, thresholds: Thresholds) -> Floats:
    """Return the scores of a recording: only which of the two thresholds they reach."""
    recording, count, age, changes, surprises = observation
    evidence = weigh(count, age, changes, surprises, thresholds)
    marked, before = mark_along(np.zeros(1, RECORD), 0, recording.times, evidence, changes.begins)
    return np.where(notifies(evidence.gravity, before), NOTIFY_SCORE, np.where(marked, MARK_SCORE, 0.0))


def judge(
    observed: list[Observation], spans: Spans, thresholds: Thresholds = THRESHOLDS
) -> tuple[Verdict, Verdict, AlarmScore]:
    """Return the result of a corpus at the thresholds of marks and of notifications, and NAB's of marks."""
    scored = [(one[0].times, score(one, thresholds), spans[one[0].name]) for one in observed]
    nab = (score_alarms(times, scores >= MARK_SCORE, windows) for times, scores, windows in scored)
    return judge_all(scored, MARK_SCORE), judge_all(scored, NOTIFY_SCORE), sum(nab, AlarmScore())


def print_folds(corpora: Corpora, observed: dict[str, list[Observation]]) -> None:
    """Print the result of each corpus with the thresholds that are best on the others."""
    results = {
        (name, choice): judge(observed[name], corpora[name][1], choice) for name in corpora for choice in FOLD_CHOICES
    }
    marks, notifications = Verdict(), Verdict()
    for left_out in corpora:
        others = [name for name in corpora if name != left_out]
        choice = max(FOLD_CHOICES, key=lambda one: _value({name: results[name, one] for name in others}))
        mark, notify, nab = results[left_out, choice]
        if left_out != "nab":
            marks, notifications = marks + mark, notifications + notify
        _add_result(left_out, choice, mark, notify, nab)
    _add_result("all but nab", None, marks, notifications, AlarmScore())
    print_table(
        "left out",
        "chosen: surprise, change, notification",
        "F1 of marks",
        "notified",
        "false per series and month",
        "NAB",
    )


def _value(results: dict[str, tuple[Verdict, Verdict, AlarmScore]]) -> float:
    """Return what a choice is worth: NAB's score or F1 of marks, and caught windows if few notifications are false.

    NAB's labels leave out many obvious anomalies, so notifications are not judged by them.
    """
    marks = [
        (nab.score(PROFILES[0]) or 0.0) / 100 if name == "nab" else mark.f1 for name, (mark, _, nab) in results.items()
    ]
    notify = sum((result[1] for name, result in results.items() if name != "nab"), Verdict())
    return sum(marks) / len(marks) + notify.recall - 10 * max(0.0, notify.false_per_month - MAX_FALSE)


def _add_result(name: str, choice: Thresholds | None, mark: Verdict, notify: Verdict, nab: AlarmScore) -> None:
    chosen = "–" if choice is None else f"{choice.mark_surprise:g}, {choice.mark_change:g}, {choice.notify_change:g}"
    standard = nab.score(PROFILES[0]) if name == "nab" else None
    caught = f"{notify.caught} of {notify.windows} ({100 * notify.recall:.0f} %)"
    score_text = "–" if standard is None else f"{standard:.1f}"
    add_row(name, chosen, f"{mark.f1:.2f}", caught, f"{notify.false_per_month:.2f}", score_text)


def print_variants(corpora: Corpora, observed: dict[str, list[Observation]]) -> None:
    """Print how results change if a constant is halved or doubled, or a view is left out."""
    _add_variant("as it is", corpora, observed, THRESHOLDS)
    for field in fields(Thresholds):
        for factor in (0.5, 2.0):
            value = factor * getattr(THRESHOLDS, field.name)
            _add_variant(f"{field.name} × {factor:g}", corpora, observed, replace(THRESHOLDS, **{field.name: value}))
    for module, name in CONSTANTS:
        for factor in (0.5, 2.0):
            with changed(module, name, factor):
                again = {corpus: [_measure_again(one) for one in many] for corpus, many in observed.items()}
                _add_variant(f"{name} × {factor:g}", corpora, again, THRESHOLDS)
    none = replace(THRESHOLDS, mark_surprise=np.inf)
    _add_variant("without remembered states", corpora, observed, none)
    _add_variant("without changes", corpora, observed, replace(THRESHOLDS, mark_change=np.inf, notify_change=np.inf))
    _add_variant("without levels", corpora, observed, replace(THRESHOLDS, mark_shift=np.inf, notify_shift=np.inf))
    columns = [f"{name}: {what}" for name in corpora for what in ("F1 of marks", "notified")]
    best = f"notified, with a threshold for {MAX_FALSE:g}"
    print_table("variant", *columns, "false notifications per series and month", best, "NAB")


@contextmanager
def changed(module: ModuleType, name: str, factor: float) -> Iterator[None]:
    """Multiply a constant of a module for a while."""
    before = getattr(module, name)
    setattr(module, name, type(before)(before * factor))
    try:
        yield
    finally:
        setattr(module, name, before)


def _measure_again(observation: Observation) -> Observation:
    recording, count, age, _, surprises = observation
    changes = measure_changes_along(np.zeros(1, RECORD), 0, recording.times, recording.values)
    return recording, count, age, changes, surprises


def _add_variant(name: str, corpora: Corpora, observed: dict[str, list[Observation]], thresholds: Thresholds) -> None:
    results = {corpus: judge(observed[corpus], corpora[corpus][1], thresholds) for corpus in corpora}
    cells = [
        text for mark, notify, _ in results.values() for text in (f"{mark.f1:.2f}", f"{100 * notify.recall:.0f} %")
    ]
    total = sum((notify for corpus, (_, notify, _) in results.items() if corpus != "nab"), Verdict())
    nab = results["nab"][2].score(PROFILES[0]) if "nab" in results else None
    best = f"{100 * _best_recall(corpora, observed, thresholds):.0f} %"
    add_row(name, *cells, f"{total.false_per_month:.2f}", best, "–" if nab is None else f"{nab:.1f}")


def _best_recall(corpora: Corpora, observed: dict[str, list[Observation]], thresholds: Thresholds) -> float:
    """Return the share of windows that notify with the best threshold, if at most MAX_FALSE notifications are false."""
    verdicts = []
    factors = np.geomspace(0.5, 2, 13).tolist() if np.isfinite(thresholds.notify_change) else [np.inf]
    for factor in factors:
        choice = replace(thresholds, notify_change=THRESHOLDS.notify_change * factor)
        judged = (judge(observed[name], spans, choice)[1] for name, (_, spans) in corpora.items() if name != "nab")
        verdicts.append(sum(judged, Verdict()))
    return max((one.recall for one in verdicts if one.false_per_month <= MAX_FALSE), default=0.0)
