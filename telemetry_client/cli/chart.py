"""A line chart in the terminal, drawn with Braille patterns: 2 by 4 dots in each character."""

import math
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from telemetry_client.cli.output import cell

HEIGHT = 12  # lines
MIN_WIDTH, MAX_WIDTH = 20, 160
MAX_SERIES = 6
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column of the character
LABEL_WIDTH = 10

Point = tuple[float, float]


def draw(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """Return a chart for each series with numbers, of at most MAX_SERIES."""
    series: dict[str, list[Point]] = defaultdict(list)
    for row in rows:
        value = row["value"]
        if isinstance(value, int | float) and not isinstance(value, bool):
            name = " ".join(cell(row[part]) for part in ("metric_name", "series", "unit") if row.get(part))
            series[name].append((datetime.fromisoformat(row["timestamp"]).timestamp(), float(value)))
    columns = min(max((width or shutil.get_terminal_size().columns) - LABEL_WIDTH - 2, MIN_WIDTH), MAX_WIDTH)
    parts = [_chart(name, sorted(points), columns) for name, points in list(series.items())[:MAX_SERIES]]
    if len(series) > MAX_SERIES:
        parts.append(f"{len(series) - MAX_SERIES} more series are not drawn\n")
    return "\n".join(parts)


def _chart(name: str, points: list[Point], columns: int) -> str:
    low, high = min(v for _, v in points), max(v for _, v in points)
    if low == high:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    start, end = points[0][0], points[-1][0]
    canvas = [[0] * columns for _ in range(HEIGHT)]
    last: tuple[int, int] | None = None
    for moment, value in points:
        x = round((moment - start) / ((end - start) or 1) * (2 * columns - 1))
        y = round((high - value) / (high - low) * (4 * HEIGHT - 1))
        _line(canvas, last or (x, y), (x, y))
        last = x, y
    labels = {0: high, HEIGHT // 2: (low + high) / 2, HEIGHT - 1: low}
    lines = [
        f"{_label(labels.get(index)):>{LABEL_WIDTH}} │" + "".join(chr(0x2800 + dots) for dots in row).rstrip("\u2800")
        for index, row in enumerate(canvas)
    ]
    begin, finish = (datetime.fromtimestamp(t).astimezone().strftime("%Y-%m-%d %H:%M:%S") for t in (start, end))
    axis = f"{'':>{LABEL_WIDTH}} └{begin}{finish:>{max(columns - len(begin), len(finish) + 1)}}"
    return "\n".join([name, *lines, axis]) + "\n"


def _line(canvas: list[list[int]], first: tuple[int, int], last: tuple[int, int]) -> None:
    steps = max(abs(last[0] - first[0]), abs(last[1] - first[1]), 1)
    for step in range(steps + 1):
        x = first[0] + round((last[0] - first[0]) * step / steps)
        y = first[1] + round((last[1] - first[1]) * step / steps)
        canvas[y // 4][x // 2] |= DOTS[y % 4][x % 2]


def _label(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if math.isfinite(value) else str(value)
