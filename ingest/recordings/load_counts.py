"""Counts of the stored and rejected rows of a load, with the reasons of the rejections."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SHOWN_LINES = 3
MAX_REASONS = 30
_NUMBERS_AND_QUOTES = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[-+]?\d[\d.,:eE+-]*")


@dataclass(slots=True)
class RejectedRows:
    """The rows that were rejected for one reason; `text` is the error of the first of them."""

    text: str
    count: int = 0
    lines: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        shown = ", ".join(f"{line:,}" for line in self.lines)
        more = ", …" if self.count > len(self.lines) else ""
        return f"{self.count:,} × {self.text} (line{'s' if self.count > 1 else ''} {shown}{more})"


class LoadCounts:
    """Counts of a load. Errors that differ only in numbers and quoted text count as one reason."""

    def __init__(self) -> None:
        self.stored = 0
        self.rejected = 0
        self.missing = 0  # rows or cells without a value
        self._reasons: dict[str, RejectedRows] = {}

    @property
    def rows(self) -> int:
        return self.stored + self.rejected + self.missing

    def add_rejected(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Count rejected rows, given as (line, field, error)."""
        for line, field_name, error in rows:
            self.rejected += 1
            text = f"{field_name}: {error}"
            key = _NUMBERS_AND_QUOTES.sub("…", text)
            if key not in self._reasons and len(self._reasons) >= MAX_REASONS:
                key, text = "others", "other reasons"
            reason = self._reasons.setdefault(key, RejectedRows(text))
            reason.count += 1
            if len(reason.lines) < SHOWN_LINES:
                reason.lines.append(line)

    def reasons(self) -> list[RejectedRows]:
        """Return the reasons, the most frequent first."""
        return sorted(self._reasons.values(), key=lambda reason: -reason.count)

    def as_json(self) -> dict[str, Any]:
        reasons = {key: [reason.text, reason.count, reason.lines] for key, reason in self._reasons.items()}
        return {"stored": self.stored, "rejected": self.rejected, "missing": self.missing, "reasons": reasons}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "LoadCounts":
        counts = cls()
        counts.stored, counts.rejected = document["stored"], document["rejected"]
        counts.missing = document.get("missing", 0)
        counts._reasons = {key: RejectedRows(*reason) for key, reason in document["reasons"].items()}
        return counts
