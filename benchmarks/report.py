"""Report of a benchmark: progress on standard error, and one Markdown table on standard output."""

import statistics
import sys
import time
from collections.abc import Iterable

ROWS: list[tuple[str, ...]] = []


def add_row(*cells: str) -> None:
    """Add a row to the table and print it to standard error."""
    ROWS.append(cells)
    print(f"  {cells[0]:<66} {' | '.join(cells[1:])}", file=sys.stderr, flush=True)


def log_progress(text: str) -> None:
    """Print progress to standard error."""
    print(f"  … {text}", file=sys.stderr, flush=True)


def print_table(*headings: str) -> None:
    """Print the table of all rows since the last call."""
    print(f"\ncalibration {measure_calibration():.1f} ms\n\n| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for cells in ROWS:
        print(f"| {' | '.join(cells)} |")
    ROWS.clear()


def measure_calibration() -> float:
    """Return the milliseconds of a fixed piece of Python, which compare the speed of machines."""
    best = 1e9
    for _ in range(3):
        began, x = time.perf_counter(), 0
        for number in range(400_000):
            x += number & 7
        best = min(best, (time.perf_counter() - began) * 1e3)
    return best


def median(values: Iterable[float]) -> float:
    return statistics.median(values)
