"""The file formats of exports.

A file is appended to: a header, then rows, so that writing can continue after an interruption. If a format cannot be
appended to, the rows are converted at the end.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from metrics.export.rows import (
    COLUMNS,
    ExportSeries,
    encode_csv_note,
    encode_csv_rows,
    encode_json_note,
    encode_json_rows,
)
from rest.csv_text import STANDARD, CsvDialect


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """How a file is written: its header, its rows and its end.

    encode_note  the last row, with messages about missing points
    convert      if the file cannot be appended to: the conversion of header and rows; the messages are complete when
                 the rows have ended, and go into the metadata
    """

    media_type: str
    header: Callable[[], bytes]
    encode_rows: Callable[[ExportSeries], bytes]
    encode_note: Callable[[Sequence[str]], bytes]
    convert: Callable[[Iterable[bytes], Sequence[str]], Iterator[bytes]] | None = None

    def encode(self, series: Iterable[ExportSeries]) -> Iterator[bytes]:
        """Yield the rows of series as bytes, a few thousand rows at a time."""
        for one_series in series:
            for batch in one_series.batches():
                yield self.encode_rows(batch)


# Arrow is large and most processes never write Parquet, so it is imported on first use.


def _arrow_header() -> bytes:
    from metrics.export import parquet

    return parquet.arrow_header()


def _arrow_rows(series: ExportSeries) -> bytes:
    from metrics.export import parquet

    return parquet.encode_arrow_batch(series)


def _to_parquet(content: Iterable[bytes], incomplete: Sequence[str]) -> Iterator[bytes]:
    from metrics.export import parquet

    yield from parquet.convert_to_parquet(content, incomplete)


FORMATS = {
    "csv": ExportFormat("text/csv; charset=utf-8", partial(STANDARD.begin, COLUMNS), encode_csv_rows, encode_csv_note),
    "jsonl": ExportFormat("application/x-ndjson", lambda: b"", encode_json_rows, encode_json_note),
    "parquet": ExportFormat("application/vnd.apache.parquet", _arrow_header, _arrow_rows, lambda _: b"", _to_parquet),
}


def export_format(name: str, dialect: CsvDialect = STANDARD) -> ExportFormat:
    """Return a format of files; `dialect` is that of CSV files."""
    if name != "csv" or dialect == STANDARD:
        return FORMATS[name]
    rows = partial(encode_csv_rows, dialect=dialect)
    return replace(FORMATS[name], header=partial(dialect.begin, COLUMNS), encode_rows=rows)
