"""An export as one stream of bytes: what the query would answer, with no end to how much."""

import re
from collections.abc import Generator, Sequence
from itertools import chain

from metrics.export.formats import FORMATS, Format
from metrics.export.pieces import Pieces
from metrics.query.execute import resolve_series
from metrics.query.query import Query
from rest.errors import TelemetryError

_LONGEST_NAME = 60
_STRANGE = re.compile(r"[^A-Za-z0-9._-]+")


class DamagedData(TelemetryError):
    """A stored block of these series has a wrong checksum."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"{', '.join(names)} cannot be read: the checksum differs")


def exported(question: Query, kind: str) -> Generator[bytes]:
    """Yield the file; nothing if there are no points. Raises DamagedData midway instead of leaving points out."""
    form, written = FORMATS[kind], _written(question, FORMATS[kind])
    first = next(written, None)
    if first is not None:
        whole = chain([first], written)
        yield from whole if form.finish is None else form.finish(whole)


def _written(question: Query, form: Format) -> Generator[bytes]:
    found = resolve_series(question)
    if not found:
        return
    begun, pieces = False, Pieces(question, found)
    for piece in pieces:
        if piece.damaged:
            raise DamagedData(piece.damaged)
        if piece.lines and not begun:
            begun = True
            yield form.head()
        for data in form.body(piece.lines):
            yield data
            pieces.let_go_when_old()  # the reader may be slow


def file_name(question: Query, kind: str) -> str:
    """What the file is called: devices, metrics and the range, in letters that every file system takes."""
    times = "_".join(f"{moment:%Y%m%dT%H%M%SZ}" for moment in (question.start, question.end))
    words = [_named(question.devices or (), "devices"), _named(question.metrics, "metrics")]
    if question.aggregation is not None:
        words.append(question.aggregation)
    return "_".join([*words, times]) + f".{kind}"


def _named(names: tuple[str, ...], plural: str) -> str:
    only = _STRANGE.sub("-", names[0]).strip("-.")[:_LONGEST_NAME] if len(names) == 1 else ""
    return only or f"{len(names)}-{plural}"
