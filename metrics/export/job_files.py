"""Files of exports in the background: `<export>.<attempt>`, appended to, and read up to a recorded size."""

import os
from collections.abc import Generator, Iterable
from pathlib import Path
from types import TracebackType

from django.conf import settings

from rest.errors import Gone

READ_CHUNK = 1024 * 1024  # bytes

FileSize = tuple[str, int]  # name of a file, and how many of its bytes belong to the export


def export_folder() -> Path:
    folder: Path = settings.EXPORTS_DIR
    return folder


class JobFile:
    """A file that is being written."""

    def __init__(self, name: str) -> None:
        self.name, self.size = name, 0
        export_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = open(export_folder() / name, "xb", buffering=0)  # noqa: SIM115 - closed in __exit__

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size += len(data)

    def sync(self) -> FileSize:
        """Flush to disk, so that what is returned survives a crash of the machine."""
        os.fdatasync(self._file.fileno())
        return self.name, self.size

    def __enter__(self) -> "JobFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def read_files(files: Iterable[FileSize]) -> Generator[bytes]:
    """Yield the recorded bytes of these files, in order. Raises Gone if a file is missing or too short."""
    for name, size in files:
        try:
            with open(export_folder() / name, "rb") as file:
                while size > 0 and (data := file.read(min(READ_CHUNK, size))):
                    size -= len(data)
                    yield data
        except FileNotFoundError:
            raise Gone("the file of this export no longer exists; create the export again") from None
        if size:
            raise Gone("the file of this export is incomplete; create the export again")


def delete_files(export_id: str, keep: Iterable[FileSize] = ()) -> None:
    """Delete the files of an export, except those to keep."""
    kept_names = {name for name, _ in keep}
    for path in export_folder().glob(f"{export_id}.*"):
        if path.name not in kept_names:
            path.unlink(missing_ok=True)


def list_export_ids() -> set[str]:
    """Return the ids of all exports that have files."""
    return {path.name.partition(".")[0] for path in export_folder().glob("exp_*.*")}
