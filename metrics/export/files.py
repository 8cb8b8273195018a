"""The files of exports in the background: <export>.<attempt>, written on and on, read as far as they count."""

import os
from collections.abc import Generator, Iterable
from pathlib import Path
from types import TracebackType

from django.conf import settings

from rest.errors import Gone

CHUNK = 1024 * 1024  # bytes that are read at once

Counted = tuple[str, int]  # a file's name, and how many of its bytes count


def folder() -> Path:
    place: Path = settings.EXPORTS_DIR
    return place


class Part:
    """A file that is being written. What `kept` returned survives the end of the machine."""

    def __init__(self, name: str) -> None:
        self.name, self.size = name, 0
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = open(folder() / name, "xb", buffering=0)  # noqa: SIM115 - closed in __exit__

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size += len(data)

    def kept(self) -> Counted:
        os.fdatasync(self._file.fileno())
        return self.name, self.size

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def read(files: Iterable[Counted]) -> Generator[bytes]:
    """What counts of these files, in order."""
    for name, size in files:
        try:
            with open(folder() / name, "rb") as file:
                while size > 0 and (data := file.read(min(CHUNK, size))):
                    size -= len(data)
                    yield data
        except FileNotFoundError:
            raise Gone("the file of this export is not there any more; ask for it again") from None
        if size:
            raise Gone("the file of this export is not whole any more; ask for it again")


def remove(export_id: str, but: Iterable[Counted] = ()) -> None:
    """Delete the files of an export, `but` those."""
    kept = {name for name, _ in but}
    for path in folder().glob(f"{export_id}.*"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def exports_on_disk() -> set[str]:
    """Of which exports there are files."""
    return {path.name.partition(".")[0] for path in folder().glob("exp_*.*")}
