"""The judge of `python -m benchmarks.anomaly` against its published rules, followed row by row."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.anomaly.events import GAP, MONTH, Verdict, judge

HOUR = 3_600_000_000  # µs


def judge_by_rows(times: list[int], alerts: list[bool], windows: list[tuple[int, int]]) -> Verdict:
    """Return the verdict of one series, without arrays."""
    begin = min(len(times) * 15 // 100, 750)
    judged = range(begin, len(times))
    rows_of = [[row for row in judged if first <= times[row] <= last] for first, last in windows]
    rows_of = [rows for rows in rows_of if rows]
    events: list[list[int]] = []
    for row in judged:
        if alerts[row]:
            if events and row - events[-1][-1] <= GAP:
                events[-1].append(row)
            else:
                events.append([row])
    inside = {row for rows in rows_of for row in rows}
    caught = [(rows[0], next(row for row in rows if alerts[row])) for rows in rows_of if any(alerts[r] for r in rows)]
    return Verdict(
        series=1,
        windows=len(rows_of),
        caught=len(caught),
        events=len(events),
        false=sum(not inside.intersection(event) for event in events),
        months=(times[-1] - times[begin]) / MONTH,
        delays=[row - first for first, row in caught],
    )


@st.composite
def labelled_series(draw: st.DrawFn) -> tuple[list[int], list[bool], list[tuple[int, int]]]:
    """Return times, alerts and separate windows in time order, some of them between two points."""
    count = draw(st.integers(1, 120))
    steps = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    times = np.cumsum(steps).tolist()
    alerts = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    limits = sorted(draw(st.sets(st.integers(0, times[-1] + 3), max_size=8)))
    windows = list(zip(limits[::2], limits[1::2], strict=False))
    return [HOUR * time for time in times], alerts, [(HOUR * first, HOUR * last) for first, last in windows]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(labelled_series())
def test_verdict_equals_that_of_the_rules_row_by_row(
    series: tuple[list[int], list[bool], list[tuple[int, int]]],
) -> None:
    times, alerts, windows = series
    verdict = judge(np.array(times), np.array(alerts), windows)
    assert verdict == judge_by_rows(times, alerts, windows)


def test_figures_of_a_series_that_was_judged_by_hand() -> None:
    times = HOUR * np.arange(100)
    alerts = np.zeros(100, np.bool_)
    alerts[[3, 20, 30, 41, 60, 75]] = True  # not judged; false, 10 rows apart: one event; false; caught late; false
    windows = [(HOUR * 5, HOUR * 10), (HOUR * 55, HOUR * 65), (HOUR * 90, HOUR * 95)]
    verdict = judge(times, alerts, windows)
    assert (verdict.windows, verdict.caught, verdict.events, verdict.false) == (2, 1, 4, 3)
    assert (verdict.recall, verdict.delay) == (0.5, 5)
    assert verdict.f1 == 2 * 0.5 * 0.25 / 0.75
    assert verdict.false_per_month == 3 / (84 / 720)
