"""What benchmarks say: figures as they come on standard error, and one Markdown table in the end."""

import statistics
import sys
import time
from collections.abc import Iterable

ROWS: list[tuple[str, ...]] = []


def say(*cells: str) -> None:
    """A row of the table."""
    ROWS.append(cells)
    print(f"  {cells[0]:<66} {' | '.join(cells[1:])}", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """How far it is; no part of the table."""
    print(f"  … {text}", file=sys.stderr, flush=True)


def table(*heads: str) -> None:
    """Print what was said since the last one."""
    print(f"\ncalibration {calibration():.1f} ms\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for cells in ROWS:
        print(f"| {' | '.join(cells)} |")
    ROWS.clear()


def calibration() -> float:
    """Milliseconds of a fixed piece of Python: how fast this machine is just now."""
    best = 1e9
    for _ in range(3):
        began, x = time.perf_counter(), 0
        for number in range(400_000):
            x += number & 7
        best = min(best, (time.perf_counter() - began) * 1e3)
    return best


def median(figures: Iterable[float]) -> float:
    return statistics.median(figures)
