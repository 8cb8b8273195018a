"""The kinds of file that an export can be.

A file is *written on and on*: its head, then rows, so that one that was left off in the middle can be gone on with.
Where a kind of file cannot be written so, what was written is *finished* into it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from metrics.export.rows import CSV_HEAD, Line, csv_rows, json_rows


@dataclass(frozen=True, slots=True)
class Format:
    media_type: str
    head: Callable[[], bytes]
    rows: Callable[[Line], bytes]
    finish: Callable[[Iterable[bytes]], Iterator[bytes]] | None = None

    def body(self, lines: Iterable[Line]) -> Iterator[bytes]:
        """Lines as bytes, a few thousand rows at a time."""
        for line in lines:
            for step in line.steps():
                yield self.rows(step)


# Arrow is large, and most processes never write Parquet: it is loaded when it is first asked for.


def _arrow_head() -> bytes:
    from metrics.export import parquet

    return parquet.head()


def _arrow_rows(line: Line) -> bytes:
    from metrics.export import parquet

    return parquet.rows(line)


def _parquet(written: Iterable[bytes]) -> Iterator[bytes]:
    from metrics.export import parquet

    yield from parquet.finish(written)


FORMATS = {
    "csv": Format("text/csv; charset=utf-8", lambda: CSV_HEAD, csv_rows),
    "jsonl": Format("application/x-ndjson", lambda: b"", json_rows),
    "parquet": Format("application/vnd.apache.parquet", _arrow_head, _arrow_rows, _parquet),
}
