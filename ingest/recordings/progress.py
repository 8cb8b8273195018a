"""The progress of a load, kept in a small file of the data folder, so that a load that was stopped can resume."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec


class LoadProgress(msgspec.Struct):
    """How much of a recording is stored.

    `end` and `end_line` are the offset and the line of the next block; 0 before the start.
    """

    end: int = 0
    end_line: int = 0
    shift: int = 0  # µs added to every time
    newest: int | None = None  # µs, after the shift; None while it is not known
    finished: bool = False
    clock: list[Any] = []  # LocalTime.state()
    counts: dict[str, Any] | None = msgspec.field(default=None, name="tally")


class ProgressFile:
    """The file of a load's progress, named by a hash of `name`. Without a name (standard input) nothing is kept."""

    def __init__(self, folder: Path, *name: str) -> None:
        self._path = folder / (hashlib.sha256("\0".join(name).encode()).hexdigest()[:32] + ".json") if name else None

    def read(self) -> LoadProgress:
        if self._path is not None:
            # Without a readable file the load starts again; storing the same points twice changes nothing.
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                return msgspec.json.decode(self._path.read_bytes(), type=LoadProgress)
        return LoadProgress()

    def write(self, progress: LoadProgress) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(msgspec.json.encode(progress))
        temporary.replace(self._path)
