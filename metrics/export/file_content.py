"""The content of an export as one stream of bytes: the result of a query, of any size."""

import re
from collections.abc import Generator
from itertools import chain

from metrics.export.formats import ExportFormat
from metrics.export.read_pieces import PieceReader
from metrics.query.execute import resolve_series
from metrics.query.query import Query

_MAX_NAME_PART = 60  # characters
_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")


def generate_file(query: Query, export_format: ExportFormat) -> Generator[bytes]:
    """Yield the bytes of the file; nothing if there are no points. A file without damaged blocks ends with a note."""
    incomplete: list[str] = []
    rows = _generate_rows(query, export_format, incomplete)
    first = next(rows, None)
    if first is not None:
        content = chain([first], rows)
        yield from content if export_format.convert is None else export_format.convert(content, incomplete)


def _generate_rows(query: Query, export_format: ExportFormat, incomplete: list[str]) -> Generator[bytes]:
    """Yield header, rows and the note; messages about missing points are added to `incomplete`."""
    series = resolve_series(query)
    if not series:
        return
    has_header, reader = False, PieceReader(query, series)
    for piece in reader:
        incomplete += [message for message in piece.incomplete if message not in incomplete]
        if (piece.series or incomplete) and not has_header:
            has_header = True
            yield export_format.header()
        for data in export_format.encode(piece.series):
            yield data
            reader.close_old_snapshot()  # the client may be slow
    if incomplete:
        yield export_format.encode_note(incomplete)


def file_name(query: Query, format_name: str) -> str:
    """Return a name with devices, metrics and the range, in characters that every file system accepts."""
    times = "_".join(f"{time:%Y%m%dT%H%M%SZ}" for time in (query.start, query.end))
    words = [_name_part(query.devices or (), "devices"), _name_part(query.metrics, "metrics")]
    if query.aggregation is not None:
        words.append(query.aggregation)
    return "_".join([*words, times]) + f".{format_name}"


def _name_part(names: tuple[str, ...], plural: str) -> str:
    single = _UNSAFE_CHARACTERS.sub("-", names[0]).strip("-.")[:_MAX_NAME_PART] if len(names) == 1 else ""
    return single or f"{len(names)}-{plural}"
