"""Times of loggers and spreadsheets, rewritten as ISO texts: day or month first, serial dates, digits without marks."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from ingest.recordings.errors import UnreadableRecording
from ingest.recordings.timestamps import parse_time_column

_CALENDAR = re.compile(
    r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?:[\sT,]+(\d{1,2})[:.](\d{2})(?:[:.](\d{2})(?:[.,](\d{1,6}))?)?\s*([AaPp]\.?[Mm]\.?)?)?"
)
_COMPACT = re.compile(r"((?:19|20)\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?(\d\d)?")
_SERIAL = re.compile(r"[2-7]\d{4}(?:[.,]\d+)?")  # days since 1899-12-30: 1954 to 2119
_SERIAL_EPOCH = datetime(1899, 12, 30)
_OFFSET = re.compile(r"(?:GMT|UTC)\s*([+-])(\d{1,2}):?(\d{2})?", re.IGNORECASE)
_NORMALIZED = re.compile(r"\s+(?:UTC|GMT|Z)$|(?<=\d)\s+(?=[+-]\d\d:?\d\d$)", re.IGNORECASE)


class TimeFormat(StrEnum):
    """How the texts of a time column are written."""

    ISO = "ISO 8601, or seconds or milliseconds since 1970"
    DAY_FIRST = "day first, such as 31.01.2026 14:05"
    MONTH_FIRST = "month first, such as 01/31/2026 02:05 PM"
    YEAR_FIRST = "year first, such as 2026/1/31 14:05"
    COMPACT = "digits, such as 2026013114"
    SERIAL = "serial dates of spreadsheets, such as 46053.58"


ORDERS = {"dmy": TimeFormat.DAY_FIRST, "mdy": TimeFormat.MONTH_FIRST}


def detect_time_format(texts: Sequence[str], order: str | None = None) -> TimeFormat | None:
    """Return the format of most texts, or None if most are not times. `order` is dmy or mdy.

    Raises UnreadableRecording if days and months cannot be told apart.
    """
    filled = [text.strip() for text in texts if text.strip()]

    def most(count: int) -> bool:
        return 2 * count > len(filled)

    if most(sum(map(bool, map(_SERIAL.fullmatch, filled)))):
        return TimeFormat.SERIAL
    if most(sum(map(_is_compact, filled))):
        return TimeFormat.COMPACT
    if most(len(filled) - len(parse_time_column([_NORMALIZED.sub("", text) for text in filled]).errors)):
        return TimeFormat.ISO
    matches = [match for text in filled if (match := _CALENDAR.fullmatch(text))]
    if not most(len(matches)):
        return None
    if all(len(match[1]) == 4 for match in matches):
        return TimeFormat.YEAR_FIRST
    return ORDERS[order] if order is not None else _detect_order(matches)


def _detect_order(matches: Sequence[re.Match[str]]) -> TimeFormat:
    if any(int(match[1]) > 12 for match in matches) or matches[0][2] == ".":
        return TimeFormat.DAY_FIRST
    if any(int(match[3]) > 12 or match[9] for match in matches):
        return TimeFormat.MONTH_FIRST
    raise UnreadableRecording(
        f"times such as {matches[0][0]!r} do not show whether day or month is first: use --dates dmy or --dates mdy"
    )


def _is_compact(text: str) -> bool:
    match = _COMPACT.fullmatch(text)
    return match is not None and 1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= 31 and int(match[4]) <= 24


def to_iso(texts: Sequence[str], time_format: TimeFormat) -> Sequence[str]:
    """Return these texts as ISO 8601; texts of another format stay as they are."""
    if time_format is TimeFormat.ISO:
        if any(text.endswith(("C", "T", "Z", "c", "z")) or " +" in text or " -" in text for text in texts[:1]):
            return [_NORMALIZED.sub(_offset_of, text) for text in texts]
        return texts
    rewrite = _REWRITES.get(time_format)
    if rewrite is None:
        order = {TimeFormat.DAY_FIRST: (4, 3, 1), TimeFormat.MONTH_FIRST: (4, 1, 3), TimeFormat.YEAR_FIRST: (1, 3, 4)}
        year, month, day = order[time_format]
        return [_calendar_to_iso(text, year, month, day) for text in texts]
    return [rewrite(text) for text in texts]


def _offset_of(match: re.Match[str]) -> str:
    return "Z" if match[0].strip() else ""


def _calendar_to_iso(text: str, year: int, month: int, day: int) -> str:
    match = _CALENDAR.fullmatch(text.strip())
    if match is None:
        return text
    century = match[year] if len(match[year]) == 4 else f"20{match[year]:>02}"
    hour, half = int(match[5] or 0), (match[9] or "")[:1].lower()
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    date = f"{century}-{int(match[month]):02}-{int(match[day]):02}"
    return f"{date} {hour:02}:{match[6] or '00'}:{match[7] or '00'}" + (f".{match[8]:0<6}" if match[8] else "")


def _compact_to_iso(text: str) -> str:
    match = _COMPACT.fullmatch(text.strip())
    if match is None:
        return text
    return f"{match[1]}-{match[2]}-{match[3]} {match[4]}:{match[5] or '00'}:{match[6] or '00'}"


def _serial_to_iso(text: str) -> str:
    if not _SERIAL.fullmatch(text.strip()):
        return text
    days, _, fraction = text.strip().replace(",", ".").partition(".")
    seconds = float(f"{days}.{fraction or 0}") * 86_400
    resolution = 86_400 / 10 ** len(fraction)  # seconds of the last digit
    if abs(seconds - round(seconds)) > resolution:
        return (_SERIAL_EPOCH + timedelta(seconds=round(seconds, 3))).isoformat(" ", "microseconds")
    return (_SERIAL_EPOCH + timedelta(seconds=round(seconds))).isoformat(" ")


_REWRITES: dict[TimeFormat, Callable[[str], str]] = {
    TimeFormat.COMPACT: _compact_to_iso,
    TimeFormat.SERIAL: _serial_to_iso,
}


def offset_in_header(name: str) -> timedelta | None:
    """Return the offset from UTC that the name of a time column states, such as `Date Time, GMT+01:00`."""
    if match := _OFFSET.search(name):
        sign = -1 if match[1] == "-" else 1
        return sign * timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    return timedelta(0) if re.search(r"\b(?:UTC|GMT)\b", name) else None
