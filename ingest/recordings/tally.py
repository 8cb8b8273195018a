"""What became of the rows: how many are stored, and how many are not for which reason."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

FEW_LINES = 3
MOST_REASONS = 30
_PARTICULARS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[-+]?\d[\d.,:eE+-]*")


@dataclass(slots=True)
class Reason:
    """One reason, told by its first case."""

    text: str
    count: int = 0
    lines: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        shown = ", ".join(f"{line:,}" for line in self.lines)
        more = ", …" if self.count > len(self.lines) else ""
        return f"{self.count:,} × {self.text} (line{'s' if self.count > 1 else ''} {shown}{more})"


class Tally:
    """Counts of a load. Reasons that differ only in numbers and quoted text are one."""

    def __init__(self) -> None:
        self.stored = 0
        self.rejected = 0
        self._reasons: dict[str, Reason] = {}

    @property
    def rows(self) -> int:
        return self.stored + self.rejected

    def reject(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Rows as (line, field, why)."""
        for line, field_name, why in rows:
            self.rejected += 1
            text = f"{field_name}: {why}"
            key = _PARTICULARS.sub("…", text)
            if key not in self._reasons and len(self._reasons) >= MOST_REASONS:
                key, text = "others", "other reasons"
            reason = self._reasons.setdefault(key, Reason(text))
            reason.count += 1
            if len(reason.lines) < FEW_LINES:
                reason.lines.append(line)

    def reasons(self) -> list[Reason]:
        """The most frequent first."""
        return sorted(self._reasons.values(), key=lambda reason: -reason.count)

    def as_json(self) -> dict[str, Any]:
        reasons = {key: [one.text, one.count, one.lines] for key, one in self._reasons.items()}
        return {"stored": self.stored, "rejected": self.rejected, "reasons": reasons}

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> "Tally":
        tally = cls()
        tally.stored, tally.rejected = found["stored"], found["rejected"]
        tally._reasons = {key: Reason(*reason) for key, reason in found["reasons"].items()}
        return tally
