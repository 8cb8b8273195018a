"""The value column of a recording: cells to values of the data types of their metrics."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.wire.validate import MAX_INTEGER, InvalidPoint, check_value
from metrics.storage.format.codec import Kind
from rest.csv_text import BOOLEAN_WORDS, is_plain_text, read_marked_text
from rest.json_names import unique_names

BOOLEANS = {"true": True, "false": False, "t": True, "f": False, "yes": True, "no": False, "1": True, "0": False}
_NO_VALUES = {"nan", "null", "none", "n/a", "na", "-nan", "inf", "-inf", "+inf", "infinity", "-infinity"}
EMPTY = "the cell is empty"

Values = NDArray[np.float64] | list[Any]


def parse_value_column(
    cells: Sequence[str], metrics: Sequence[str], kinds: Mapping[str, Kind]
) -> tuple[Values, dict[int, str]]:
    """Return the values, and the errors by position. `metrics` holds the metric of each cell."""
    if all(kind is Kind.NUMERIC for kind in kinds.values()) and (numbers := _parse_numeric_column(cells)) is not None:
        return numbers, {}
    values: list[Any] = []
    errors: dict[int, str] = {}
    for position, (cell, metric) in enumerate(zip(cells, metrics, strict=True)):
        try:
            values.append(_parse_cell(cell, kinds[metric]))
        except ValueError as error:
            values.append(0.0)
            errors[position] = str(error)
    return values, errors


def _parse_numeric_column(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """Return the column as numbers; None if any cell has to be read by itself."""
    try:
        numbers = np.array(list(map(float, cells)), np.float64)
    except ValueError:
        return None
    # float() accepts 1_000 and ١, which are not numbers here; beyond 2^53 integers are rejected and floats are not.
    joined = "".join(cells)
    is_plain = joined.isascii() and "_" not in joined and bool((np.abs(numbers) < MAX_INTEGER).all())
    return numbers if is_plain else None


def are_numbers(cells: Sequence[str]) -> bool:
    """Return whether all cells are plain numbers."""
    return _parse_numeric_column(cells) is not None


def _parse_cell(cell: str, kind: Kind) -> Any:
    if (text := read_marked_text(cell)) is not None:
        if kind in (Kind.NUMERIC, Kind.BOOLEAN, Kind.GEOLOCATION):
            raise ValueError(f"{_shown(cell)} is a text: the metric holds {kind.name.lower()} values")
        return check_value(text)
    cell = cell.strip()
    if not cell:
        raise ValueError(EMPTY)
    if cell.lower() in _NO_VALUES:
        raise ValueError(f"{cell!r} is not a measurement")
    if kind is Kind.NUMERIC:
        return _parse_number(cell)
    if kind is Kind.BOOLEAN:
        if cell.lower() not in BOOLEANS:
            raise ValueError(f"{_shown(cell)} is neither true nor false")
        return BOOLEANS[cell.lower()]
    value: Any = cell
    if kind is Kind.GEOLOCATION or (kind is Kind.JSON and not is_plain_text(cell)):
        try:
            value = json.loads(cell, object_pairs_hook=unique_names)
        except (ValueError, RecursionError):
            raise ValueError(f"{_shown(cell)} is not JSON") from None
    return check_value(value)


def _parse_number(cell: str) -> float:
    try:
        if not cell.isascii() or "_" in cell:
            raise ValueError
        value = float(cell)
    except ValueError:
        raise ValueError(f"{_shown(cell)} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{_shown(cell)} is beyond 1.8e308")
    if abs(value) >= MAX_INTEGER and cell.lstrip("+-").isdigit() and abs(int(cell)) > MAX_INTEGER:
        raise ValueError("an integer beyond 2^53 would be rounded")
    return value


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:40] + "…")


def infer_kind(cells: Sequence[str]) -> Kind:
    """Return the kind of a column: numeric if at least half of its values are numbers, else boolean or string."""
    filled = [cell.strip().lower() for cell in cells]
    filled = [cell for cell in filled if cell and cell not in _NO_VALUES]
    numbers = sum(map(is_number, filled))
    if 2 * numbers >= len(filled):
        return Kind.NUMERIC
    return Kind.BOOLEAN if BOOLEANS.keys() >= set(filled) else Kind.STRING


def infer_exported_kind(cells: Iterable[str]) -> Kind | None:
    """Return the kind of exported values: that of all, else JSON, which holds any value; None if there are none."""
    kinds = {_exported_kind(cell) for cell in set(cells) if cell}
    return kinds.pop() if len(kinds) == 1 else Kind.JSON if kinds else None


def _exported_kind(cell: str) -> Kind:
    if read_marked_text(cell) is not None or is_plain_text(cell):
        return Kind.STRING
    if cell.lower() in BOOLEAN_WORDS:
        return Kind.BOOLEAN
    return Kind.NUMERIC if is_number(cell) else Kind.JSON


def is_empty(cell: str) -> bool:
    """Return whether a cell has no value: it is empty, or says so."""
    cell = cell.strip().lower()
    return not cell or cell in _NO_VALUES


def is_number(cell: str) -> bool:
    """Return whether a cell is a plain number, also one that is rejected because it would be rounded."""
    try:
        _parse_number(cell)
    except ValueError as error:
        return "rounded" in str(error)
    return True


def parse_object(cell: str, field: str) -> dict[str, Any] | None:
    """Parse a cell of tags or metadata. Raises InvalidPoint."""
    if not cell.strip():
        return None
    try:
        document = json.loads(cell, object_pairs_hook=unique_names)
    except (ValueError, RecursionError):
        document = cell
    if not isinstance(document, dict):
        raise InvalidPoint(field, "a JSON object or an empty cell is accepted")
    check_value(document)
    return document
