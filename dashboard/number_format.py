"""Numbers, values and durations as text; static/dashboard/number_format.js formats them the same way."""

import json
import math
from typing import Any

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
MAX_TEXT_LENGTH = 80
# Units that are written with a decimal prefix: "8.29 GB".
PREFIXED = {
    "B": "B", "bytes": "B", "byte": "B",
    "B/s": "B/s", "bytes/s": "B/s",
    "bit/s": "bit/s", "Hz": "Hz", "W": "W", "Wh": "Wh",
}  # fmt: skip
PREFIXES = ("", "k", "M", "G", "T", "P")
SYMBOLS = {"percent": "%", "celsius": "°C", "fahrenheit": "°F", "seconds": "s", "second": "s", "count": "", "1": ""}


def grouped(number: float, digits: int) -> str:
    """Return a number with thousands separators and a true minus sign.

    Trailing zeros stay, so that a changing number keeps its width.
    """
    text = f"{number:,.{digits if number % 1 else 0}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.removeprefix("-")


def number_text(number: float) -> str:
    """Return a number with three significant digits or more."""
    size = abs(number)
    if not math.isfinite(number):
        return "no data"
    if size and (size < 1e-4 or size >= 1e15):
        return f"{number:.2e}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-").replace("-", MINUS)
    if size >= 1000:
        return grouped(number, 0)
    if size >= 100:
        return grouped(number, 1)
    if size >= 1 or not size:
        return grouped(number, 2)
    return grouped(number, min(6, 2 - math.floor(math.log10(size))))


def duration_text(seconds: float) -> str:
    """Return a duration with two units at most: "4 d 2 h", "12 min", "3 s"."""
    whole = max(0, math.floor(seconds))
    if whole < 60:
        return f"{whole}{NBSP}s"
    if whole < 3600:
        return f"{whole // 60}{NBSP}min"
    if whole < 86400:
        hours, minutes = whole // 3600, whole % 3600 // 60
        return f"{hours}{NBSP}h {minutes}{NBSP}min" if hours < 10 and minutes else f"{hours}{NBSP}h"
    days, hours = whole // 86400, whole % 86400 // 3600
    return f"{days}{NBSP}d {hours}{NBSP}h" if days < 10 and hours else f"{days:,}{NBSP}d"


def kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "words"


def reading(value: Any, unit: str | None) -> tuple[str, str]:
    """Return a value and its unit as text."""
    symbol = SYMBOLS.get(unit or "", unit or "")
    if isinstance(value, bool):
        return ("on" if value else "off"), ""
    if isinstance(value, (int, float)):
        if symbol == "s" and value >= 120:
            return duration_text(value), ""
        if symbol in PREFIXED and abs(value) >= 1000:
            step = min(len(PREFIXES) - 1, int(math.log10(abs(value)) / 3))
            return number_text(value / 1000**step), PREFIXES[step] + PREFIXED[symbol]
        return number_text(value), PREFIXED.get(symbol, symbol)
    if isinstance(value, dict) and value.keys() >= {"latitude", "longitude"}:
        return f"{value['latitude']}, {value['longitude']}".replace("-", MINUS), ""
    text = (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))
    )
    return (text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"), symbol
