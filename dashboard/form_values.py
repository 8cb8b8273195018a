"""Numbers, times and limits as they are typed into a field, and as they stand in one."""

import math
from typing import Any

UNITS = ((1, "s"), (60, "min"), (3600, "h"), (86_400, "d"))


def number(text: str) -> Any:
    """The number that a text is, in either way to write decimals; the text itself where it is none, for it is wrong."""
    if not text:
        return None
    try:
        found = float(text.replace(",", ".").replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return text
    if not math.isfinite(found):
        return text
    return int(found) if found.is_integer() and abs(found) < 1e15 else found


def threshold(text: str) -> Any:
    """A number, a truth value or a text: whatever it reads as."""
    if text in ("true", "false"):
        return text == "true"
    found = number(text)
    return found if isinstance(found, (int, float)) else text or None


def seconds(text: str, unit: str) -> Any:
    found = number(text)
    if not isinstance(found, (int, float)):
        return found
    length = found * (int(unit) if unit in {str(length) for length, _ in UNITS} else 1)
    return int(length) if float(length).is_integer() else length


def written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else f"{value}"


def split(length: Any) -> tuple[str, int]:
    """Of a number of seconds the number and the largest unit of which it is whole ones."""
    if not isinstance(length, (int, float)):
        return written(length), 60
    unit = next((one for one, _ in reversed(UNITS) if length and length % one == 0), 1)
    return written(number(str(length / unit))), unit
