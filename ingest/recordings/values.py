"""The value column of a recording: cells to what their metrics hold, with a reason where that fails."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.wire.validate import LARGEST_INTEGER, BadPoint, check_value
from metrics.storage.format.codec import Kind

_TRUTH = {"true": True, "false": False, "t": True, "f": False, "yes": True, "no": False, "1": True, "0": False}
_NOTHING = {"nan", "null", "none", "n/a", "na", "-nan", "inf", "-inf", "+inf", "infinity", "-infinity"}
EMPTY = "the cell is empty"

Values = NDArray[np.float64] | list[Any]


def read_values(
    cells: Sequence[str], metrics: Sequence[str], kinds: Mapping[str, Kind]
) -> tuple[Values, dict[int, str]]:
    """Values, and by position why one cannot be kept. `metrics` says whose each cell is."""
    if all(kind is Kind.NUMERIC for kind in kinds.values()) and (numbers := _all_numbers(cells)) is not None:
        return numbers, {}
    values: list[Any] = []
    bad: dict[int, str] = {}
    for position, (cell, metric) in enumerate(zip(cells, metrics, strict=True)):
        try:
            values.append(_read(cell.strip(), kinds[metric]))
        except ValueError as error:
            values.append(0.0)
            bad[position] = str(error)
    return values, bad


def _all_numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """The column as numbers; None where any cell wants a careful look."""
    try:
        found = np.array(list(map(float, cells)), np.float64)
    except ValueError:
        return None
    # Python reads 1_000 and ١, which no recorder means; beyond 2^53 integers and floats must be told apart.
    joined = "".join(cells)
    plain = joined.isascii() and "_" not in joined and bool((np.abs(found) < LARGEST_INTEGER).all())
    return found if plain else None


def _read(cell: str, kind: Kind) -> Any:
    if not cell:
        raise ValueError(EMPTY)
    if cell.lower() in _NOTHING:
        raise ValueError(f"{cell!r} is no measurement")
    if kind is Kind.NUMERIC:
        return _number(cell)
    if kind is Kind.BOOLEAN:
        if cell.lower() not in _TRUTH:
            raise ValueError(f"{_shown(cell)} is neither true nor false")
        return _TRUTH[cell.lower()]
    value: Any = cell
    if kind in (Kind.JSON, Kind.GEOLOCATION):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            raise ValueError(f"{_shown(cell)} is not JSON") from None
    return check_value(value)


def _number(cell: str) -> float:
    try:
        if not cell.isascii() or "_" in cell:
            raise ValueError
        value = float(cell)
    except ValueError:
        raise ValueError(f"{_shown(cell)} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{_shown(cell)} is beyond 1.8e308")
    if abs(value) >= LARGEST_INTEGER and cell.lstrip("+-").isdigit() and abs(int(cell)) > LARGEST_INTEGER:
        raise ValueError("an integer beyond 2^53 would be rounded")
    return value


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:40] + "…")


def kind_of(cells: Sequence[str]) -> Kind:
    """What a column looks like: numbers where at least half of what it holds are numbers, else truth values or text."""
    held = [cell.strip().lower() for cell in cells]
    held = [cell for cell in held if cell and cell not in _NOTHING]
    numbers = sum(map(_is_number, held))
    if 2 * numbers >= len(held):
        return Kind.NUMERIC
    return Kind.BOOLEAN if _TRUTH.keys() >= set(held) else Kind.STRING


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError as error:
        return "rounded" in str(error)
    return True


def read_mapping(cell: str, field: str) -> dict[str, Any] | None:
    """Tags or metadata. Raises BadPoint."""
    if not cell.strip():
        return None
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        found = cell
    if not isinstance(found, dict):
        raise BadPoint(field, "a JSON object or nothing is accepted")
    check_value(found)
    return found
