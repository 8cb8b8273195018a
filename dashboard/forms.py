"""What forms of several pages have in common: what was typed, and numbers, names and texts read from it."""

from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

from rest.errors import InvalidFields

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LONGEST_TEXT = 20_000


@dataclass
class Typed:
    """What stands in the fields of a form, and what is wrong with it."""

    values: dict[str, Any]
    errors: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, error: InvalidFields) -> None:
        for name, detail in error.fields:
            self.errors.setdefault(name, []).append(detail)


def texts(given: QueryDict) -> dict[str, str]:
    """The last text of each field, without what no database keeps."""
    return {name: given.get(name, "").replace("\0", "").strip()[:LONGEST_TEXT] for name in given}


def lines(text: str) -> list[str]:
    """The names in a text that has one in each line."""
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def whole(text: str, otherwise: int) -> int:
    """A whole number; what is none becomes one that is refused."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else otherwise


def weekly_of(text: dict[str, str], days: list[str]) -> dict[str, Any] | None:
    """Times of the week, in the words of alerts.recurring_windows; None where no day is chosen."""
    if not days:
        return None
    chosen = [int(day) for day in days if len(day) == 1 and day in "0123456"]
    times = {name: text.get(name, "") for name in ("from", "to")}
    return {"days": chosen, **times, "timezone": text.get("timezone") or "UTC"}
