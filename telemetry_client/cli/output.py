"""Output of commands: JSON, or a table whose cells contain no control characters."""

import json
import os
import select
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from io import StringIO
from typing import Any

from telemetry_client.cli.options import wants_json, warn

Row = Mapping[str, Any]
Column = tuple[str, str | Callable[[Row], Any]]  # heading, field or function of the row
PIPE_WIDTH = 10_000  # no cell is cut where the reader is a program
LEVEL_STYLES = {
    "warning": "yellow", "error": "red", "critical": "bold red", "emergency": "bold red", "active": "red",
    "healthy": "green", "unhealthy": "red", "silent": "red", "late": "yellow", "reporting": "green",
}  # fmt: skip


class PipeClosed(Exception):
    """The reader of standard output has ended."""


def write(text: str) -> None:
    """Write to standard output at once. Raises PipeClosed."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise PipeClosed from None
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def expect_reader() -> None:
    """Raise PipeClosed if the reader of standard output has ended, for commands that write rarely."""
    if os.name != "posix" or sys.stdout.isatty():
        return
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        raise PipeClosed


def line(text: str) -> None:
    """Write a line of text from the site."""
    write(printable(text) + "\n")


def json_line(value: Any) -> None:
    """Write JSON in one line, for streams."""
    write(json.dumps(value, ensure_ascii=False) + "\n")


def emit(value: Any, text: str = "") -> None:
    """Write a value as JSON, or else its text as a line."""
    if wants_json():
        write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    elif text:
        line(text)


def table(rows: Iterable[Row], columns: Sequence[Column], nothing: str = "") -> int:
    """Write rows as a table, or as a JSON array; return their number. `nothing` is said where there are none."""
    listed = list(rows)
    if wants_json():
        emit(listed)
    elif listed:
        write(render(columns, listed))
    elif nothing:
        warn(nothing)
    return len(listed)


def details(row: Row) -> None:
    """Write the fields of an object, each in a line, or as JSON."""
    if wants_json():
        emit(row)
        return
    shown = {name: value for name, value in row.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    write("".join(f"{name:<{width}}  {cell(value)}\n" for name, value in shown.items()))


def render(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return a table as text; on a terminal as wide as it, with colours."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading, _ in columns:
        grid.add_column(heading, overflow="fold", no_wrap=not terminal)
    for row in rows:
        cells = [cell(field(row) if callable(field) else row.get(field)) for _, field in columns]
        grid.add_row(*(Text(text, LEVEL_STYLES.get(text, "")) for text in cells))
    buffer = StringIO()
    width = shutil.get_terminal_size().columns if terminal else PIPE_WIDTH
    Console(file=buffer, force_terminal=terminal, width=width, highlight=False, legacy_windows=False).print(grid)
    return "".join(f"{text.rstrip()}\n" for text in buffer.getvalue().splitlines())


def cell(value: Any) -> str:
    """Return a value as text in one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.12g}"
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        return printable(", ".join(map(str, value)))
    if isinstance(value, dict | list):
        return printable(json.dumps(value, ensure_ascii=False))
    return printable(str(value))


def printable(text: str) -> str:
    """Return a text whose control characters cannot change the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def local_time(text: str | None) -> str:
    """Return a time of the site in the time zone of this machine, to the second."""
    if not text:
        return ""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def time_of(field: str) -> Callable[[Row], str]:
    """Return the column function for a time."""
    return lambda row: local_time(row.get(field))
