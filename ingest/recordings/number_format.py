"""Numbers of loggers and spreadsheets: decimal commas, thousands separators, units in the cell, missing values."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.recordings.cell_values import is_number
from ingest.recordings.errors import UnreadableRecording

_NUMBER = r"[-+]?(?:\d[\d.,']*|[.,]\d+)(?:[eE][-+]?\d+)?"
_WITH_UNIT = re.compile(rf"({_NUMBER})\s*([^\d\s.,;:+\-][^\d]{{0,19}})")
_DECIMAL_COMMA = re.compile(r"[-+]?(?:\d{1,3}(?:[.']\d{3})+|\d*),\d+(?:[eE][-+]?\d+)?")
_THOUSANDS_COMMA = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NOT_MISSING = frozenset({"", "nan", "null", "none", "n/a", "na", "-", "--"})  # rejected or skipped by other rules


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How the numbers of a column are written."""

    decimal: str = "."
    has_units: bool = False
    has_thousands: bool = False
    missing: frozenset[str] = frozenset()  # texts that mean that there is no value

    @property
    def is_plain(self) -> bool:
        return self.decimal == "." and not self.has_units and not self.has_thousands

    def is_missing(self, cell: str) -> bool:
        """Return whether the cell is a sentinel; numbers are compared by value."""
        cell = cell.strip()
        if cell in self.missing:
            return True
        plain = self._plain_number(cell)
        return is_number(plain) and any(is_number(text) and float(text) == float(plain) for text in self.missing)

    def convert(self, cells: Sequence[str]) -> tuple[Sequence[str], list[str] | None]:
        """Return the cells with plain numbers, and the unit of each cell if cells have units."""
        if self.is_plain:
            return cells, None
        if not self.has_units:
            return [self._plain_number(cell) for cell in cells], None
        matches = [_WITH_UNIT.fullmatch(cell.strip()) for cell in cells]
        numbers = [self._plain_number(match[1] if match else cell) for match, cell in zip(matches, cells, strict=True)]
        return numbers, [match[2].strip() if match else "" for match in matches]

    def _plain_number(self, cell: str) -> str:
        number = cell.strip()
        if self.decimal == "," and _DECIMAL_COMMA.fullmatch(number):
            return number.replace(".", "").replace("'", "").replace(",", ".")
        if self.has_thousands and _THOUSANDS_COMMA.fullmatch(number):
            return number.replace(",", "")
        return cell  # with its blanks, which may be part of a text


def detect_number_format(
    cells: Sequence[str], metric_count: int, decimal: str | None, missing: frozenset[str]
) -> NumberFormat:
    """Return the number format of most cells, or the plain format if most cells are not numbers.

    `decimal` overrides the detection. Raises UnreadableRecording if decimal and thousands commas cannot be told apart.
    """
    filled = [cell.strip() for cell in cells]
    filled = [cell for cell in filled if cell.lower() not in _NOT_MISSING and cell not in missing]
    matches = [match for cell in filled if (match := _WITH_UNIT.fullmatch(cell)) and not is_number(cell)]
    units = {match[2].strip() for match in matches}
    has_units = 2 * len(matches) >= len(filled) > 0 and len(units) <= max(1, metric_count)
    numbers = [match[1] for match in matches] if has_units else []
    with_comma = [cell for cell in [*filled, *numbers] if "," in cell and _looks_like_number(cell)]
    if decimal == "." or not with_comma:
        return NumberFormat(".", has_units, bool(with_comma), missing)
    if decimal is None:
        decimal = _detect_decimal(with_comma, len(filled))
    return NumberFormat(decimal, has_units, decimal == "." and bool(with_comma), missing)


def _detect_decimal(cells: Sequence[str], count: int) -> str:
    decimal = sum(1 for cell in cells if _DECIMAL_COMMA.fullmatch(cell) and not _THOUSANDS_COMMA.fullmatch(cell))
    thousands = sum(1 for cell in cells if _THOUSANDS_COMMA.fullmatch(cell) and not _DECIMAL_COMMA.fullmatch(cell))
    if decimal and not thousands:
        return ","
    if thousands and not decimal:
        return "."
    if 2 * len(cells) < count:
        return "."  # a text column
    raise UnreadableRecording(
        f"values such as {cells[0]!r} have a comma that may separate decimals or thousands: --decimal , or --decimal ."
    )


def _looks_like_number(cell: str) -> bool:
    return bool(_DECIMAL_COMMA.fullmatch(cell) or _THOUSANDS_COMMA.fullmatch(cell))


def looks_like_written_number(cell: str) -> bool:
    """Return whether a cell is a number in another form: with a comma, a unit or other digits."""
    cell = cell.strip()
    return bool(_WITH_UNIT.fullmatch(cell)) or _looks_like_number(cell) or (cell != "" and cell.isnumeric())
