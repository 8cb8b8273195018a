"""The NAB benchmark: its command, its scoring rules and the score of the detector."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alerts.detector.scoring import MARK_SCORE, NOTIFY_SCORE
from benchmarks import nab
from benchmarks.nab_score import PROFILES, AlarmScore, score_alarms, weigh_position

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT / "tests" / "data" / "nab" / "recordings"
# Standard profile at the marking threshold; measured: 79.7 on these seven recordings, 84.0 on the 23 that contain them.
MIN_SCORE = 77
STANDARD, LOW_FP, LOW_FN = PROFILES
TIMES = np.arange(1000)
WINDOW = (400, 499)


def alarms(*rows: int) -> np.ndarray:
    return np.isin(TIMES, rows)


@pytest.mark.parametrize(
    ("rows", "standard", "low_fp", "low_fn"),
    [
        ((), 0, 0, 0),
        ((400,), 100, 100, 100),
        ((400, 450, 499), 100, 100, 100),  # the first detection in a window counts
        ((100,), 0, 0, 0),  # within the probationary period
        ((300,), 50 * (0 - 0.11), 50 * (0 - 0.22), 100 / 3 * (0 - 0.11)),  # before any window: full cost
        ((400, 999), 100 - 50 * 0.11, 100 - 50 * 0.22, 100 - 100 / 3 * 0.11),  # far after the window: full cost
    ],
)
def test_detections_are_scored_by_the_published_rules(
    rows: tuple[int, ...], standard: float, low_fp: float, low_fn: float
) -> None:
    result = score_alarms(TIMES, alarms(*rows), [WINDOW])
    assert result.score(STANDARD) == pytest.approx(standard)
    assert result.score(LOW_FP) == pytest.approx(low_fp)
    assert result.score(LOW_FN) == pytest.approx(low_fn)


def test_early_detection_scores_more_and_slightly_late_detection_costs_little() -> None:
    assert weigh_position(-1) == pytest.approx(0.98661, abs=1e-5)
    assert weigh_position(0) == 0
    assert weigh_position(3.1) == -1
    early, late = (score_alarms(TIMES, alarms(row), [WINDOW]).score(STANDARD) or 0 for row in (420, 490))
    assert 100 > early > late > 50
    near, far = (score_alarms(TIMES, alarms(row), [WINDOW]).false_alarms[0] for row in (501, 600))
    assert -0.1 < near < 0
    assert far < -0.98


def test_tallies_add_up_and_score_nothing_without_windows() -> None:
    caught, missed = score_alarms(TIMES, alarms(400), [WINDOW]), score_alarms(TIMES, alarms(), [WINDOW])
    assert (caught + missed).score(STANDARD) == pytest.approx(50)
    assert score_alarms(TIMES, alarms(300), []).score(STANDARD) is None
    assert AlarmScore().score(STANDARD) is None


@pytest.mark.slow
def test_recordings_score_above_the_minimum() -> None:
    recordings, windows = nab.read_recordings(RECORDINGS), nab.read_windows(RECORDINGS)
    assert windows is not None
    assert set(windows) == {recording.name for recording in recordings}
    scores = nab.compute_scores(recordings)
    marked = sum(nab.score_groups(recordings, scores, windows, MARK_SCORE).values(), AlarmScore())
    notified = sum(nab.score_groups(recordings, scores, windows, NOTIFY_SCORE).values(), AlarmScore())
    assert (marked.score(STANDARD) or 0) >= MIN_SCORE
    assert len(notified.false_alarms) < len(marked.false_alarms)
    assert 0.3 * notified.windows <= len(notified.caught) < len(marked.caught)


@pytest.mark.slow
def test_command_writes_a_score_for_each_row(tmp_path: Path) -> None:
    source = tmp_path / "in" / "data"
    shutil.copytree(RECORDINGS / "artificialWithAnomaly", source / "artificialWithAnomaly")
    (tmp_path / "in" / "labels").mkdir()
    shutil.copy(RECORDINGS / "windows.json", tmp_path / "in" / "labels" / "combined_windows.json")
    command = [sys.executable, "benchmarks/nab.py", str(source), str(tmp_path / "out")]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    assert "| all | 2 of 2 |" in process.stdout
    name = "artificialWithAnomaly/art_daily_jumpsup.csv"
    with (source / name).open(newline="") as source_file, (tmp_path / "out" / name).open(newline="") as scored_file:
        rows, scored_rows = list(csv.reader(source_file)), list(csv.reader(scored_file))
    assert scored_rows[0] == ["timestamp", "value", "anomaly_score"]
    assert [row[:2] for row in scored_rows] == rows
    scores = np.array([float(row[2]) for row in scored_rows[1:]])
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores >= MARK_SCORE).any()


def test_command_without_windows_writes_scores_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "group").mkdir(parents=True)
    (tmp_path / "in" / "group" / "one.csv").write_text(
        "timestamp,value\n2024-01-01 00:00:00,1\n2024-01-01 00:05:00,2\n"
    )
    monkeypatch.setattr(sys, "argv", ["nab.py", str(tmp_path / "in"), str(tmp_path / "out")])
    nab.main()
    assert capsys.readouterr().out == ""
    lines = (tmp_path / "out" / "group" / "one.csv").read_text().splitlines()
    assert lines[1:] == ["2024-01-01 00:00:00,1,0.000000", "2024-01-01 00:05:00,2,0.000000"]
