"""`FailurePattern`: a pattern that the site found in its alerts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class FailurePattern:
    """Repeated behaviour of alerts: flapping, a sequence, a recurring hour, or a co-occurrence."""

    kind: str
    subject: Any
    support: int
    confidence: float
    description: str
    devices: list[str]
    found_at: str

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "FailurePattern":
        return cls(**{part.name: row.get(part.name) for part in fields(cls)})  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
