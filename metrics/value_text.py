"""Numbers, values and durations as text; dashboard/static/dashboard/number_format.js formats them the same way."""

import json
import math
import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
NO_DATA = "no data"
SIGNIFICANT_DIGITS = 5
EXACT_DIGITS = 17  # distinguish all float64; fewer do for most
MAX_DIGITS = 800  # of a float64 as a decimal number
SMALLEST_FIXED, LARGEST_FIXED = 1e-4, 1e15  # outside of this range, numbers have an exponent
_FIXED = re.compile(rf"({MINUS}?[\d,]+)(?:\.(\d+))?(?=$|{NBSP})")  # a number without exponent, before its unit
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
    """Return a number with thousands separators and a true minus sign, rounded half away from zero as scripts do."""
    with localcontext(prec=MAX_DIGITS):
        rounded = Decimal(number).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{rounded:,f}".replace("-", MINUS) if rounded else "0"


def number_text(number: float, *beside: float | None) -> str:
    """Return a number with five significant digits, or with as many as distinguish it from the numbers beside it.

    Pages, the texts of the API, webhooks and e-mails all use this function, so that a number is the same text in all.
    """
    others = [other for other in beside if other is not None and other != number and math.isfinite(other)]
    for digits in range(SIGNIFICANT_DIGITS, EXACT_DIGITS):
        text = _with_digits(number, digits)
        if all(_with_digits(other, digits) != text for other in others):
            return text
    return _exact(number)


def align(texts: Sequence[str]) -> list[str]:
    """Return the texts of the numbers of a list in one format: all with as many decimals as the most precise one."""
    numbers = [_FIXED.match(text) for text in texts]
    widest = max((len(number[2] or "") for number in numbers if number), default=0)
    return [
        f"{number[1]}.{(number[2] or '').ljust(widest, '0')}{text[number.end() :]}" if number and widest else text
        for number, text in zip(numbers, texts, strict=True)
    ]


def _with_digits(number: float, digits: int) -> str:
    """Return a number rounded to some significant digits, without trailing zeros; whole digits are kept."""
    size = abs(number)
    if not math.isfinite(number):
        return NO_DATA
    if not size:
        return "0"
    if size < SMALLEST_FIXED or size >= LARGEST_FIXED:
        return _trimmed(f"{number:.{digits - 1}e}")
    return _trimmed(grouped(number, max(0, digits - 1 - math.floor(math.log10(size)))))


def _exact(number: float) -> str:
    """Return a number with the fewest digits that no other number shares."""
    shortest = Decimal(repr(float(number)))
    is_fixed = SMALLEST_FIXED <= abs(number) < LARGEST_FIXED
    return _trimmed(f"{shortest:,f}" if is_fixed else f"{shortest:e}")


def _trimmed(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    mantissa = mantissa.rstrip("0").removesuffix(".") if "." in mantissa else mantissa
    return (f"{mantissa}e{int(exponent)}" if exponent else mantissa).replace("-", MINUS)


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


def reading(value: Any, unit: str | None, *beside: Any) -> tuple[str, str]:
    """Return a value and its unit as text, distinguishable from the values beside it."""
    symbol = SYMBOLS.get(unit or "", unit or "")
    if isinstance(value, bool):
        return ("true" if value else "false"), ""
    if isinstance(value, (int, float)):
        others = [other for other in beside if isinstance(other, (int, float)) and not isinstance(other, bool)]
        return _quantity(value, symbol, others)
    if isinstance(value, dict) and value.keys() >= {"latitude", "longitude"}:
        return f"{value['latitude']}, {value['longitude']}".replace("-", MINUS), ""
    text = (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))
    )
    return (text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"), symbol


def with_unit(value: Any, unit: str | None, *beside: Any) -> str:
    """Return a value with its unit: "4.2 °C"."""
    if value is None:
        return NO_DATA
    return NBSP.join(part for part in reading(value, unit, *beside) if part)


def _quantity(value: float, symbol: str, others: list[float]) -> tuple[str, str]:
    """Return a number and its unit: durations and large quantities in the unit that fits their size."""
    if symbol == "s" and value >= 120 and math.isfinite(value):
        text = duration_text(value)
        if all(duration_text(other) != text for other in others if other != value):
            return text, ""
    if symbol in PREFIXED and math.isfinite(value) and abs(value) >= 1000:
        step = min(len(PREFIXES) - 1, int(math.log10(abs(value)) / 3))
        scaled = [other / 1000**step for other in others if other != value]
        if value / 1000**step not in scaled:
            return number_text(value / 1000**step, *scaled), PREFIXES[step] + PREFIXED[symbol]
    return number_text(value, *others), PREFIXED.get(symbol, symbol)
