"""The content of an export as one stream of bytes: the result of a query, of any size."""

import re
from collections.abc import Generator, Sequence
from itertools import chain

from metrics.export.formats import FORMATS, ExportFormat
from metrics.export.read_pieces import PieceReader
from metrics.query.execute import resolve_series
from metrics.query.query import Query
from rest.errors import TelemetryError

_MAX_NAME_PART = 60  # characters
_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")


class DamagedData(TelemetryError):
    """A stored block of these series has a wrong checksum."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"{', '.join(names)} cannot be read: the checksum differs")


def generate_file(query: Query, format_name: str) -> Generator[bytes]:
    """Yield the bytes of the file; nothing if there are no points. Raises DamagedData rather than omit points."""
    export_format = FORMATS[format_name]
    rows = _generate_rows(query, export_format)
    first = next(rows, None)
    if first is not None:
        content = chain([first], rows)
        yield from content if export_format.convert is None else export_format.convert(content)


def _generate_rows(query: Query, export_format: ExportFormat) -> Generator[bytes]:
    series = resolve_series(query)
    if not series:
        return
    has_header, reader = False, PieceReader(query, series)
    for piece in reader:
        if piece.damaged:
            raise DamagedData(piece.damaged)
        if piece.series and not has_header:
            has_header = True
            yield export_format.header()
        for data in export_format.encode(piece.series):
            yield data
            reader.close_old_snapshot()  # the client may be slow


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
