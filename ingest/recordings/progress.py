"""How far a load has come, in a small file of the data folder: a load that was killed goes on where it was."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec


class Progress(msgspec.Struct):
    """Of one recording into one place. `end` and `end_line` say where the next block begins; 0: not begun."""

    end: int = 0
    end_line: int = 0
    shift: int = 0  # µs by which every time is moved
    newest: int | None = None  # µs, as shifted; None while that is not known
    finished: bool = False
    clock: list[Any] = []  # LocalTime.state()
    tally: dict[str, Any] | None = None


class Ledger:
    """Where the Progress of a load is kept. Without a name (standard input) nothing is."""

    def __init__(self, folder: Path, *name: str) -> None:
        self._path = folder / (hashlib.sha256("\0".join(name).encode()).hexdigest()[:32] + ".json") if name else None

    def read(self) -> Progress:
        if self._path is not None:
            with contextlib.suppress(OSError, msgspec.MsgspecError):  # lost or torn: begin anew, which does no harm
                return msgspec.json.decode(self._path.read_bytes(), type=Progress)
        return Progress()

    def write(self, progress: Progress) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_bytes(msgspec.json.encode(progress))
        fresh.replace(self._path)
