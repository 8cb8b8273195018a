"""Creating, checking and locking the data folder before a process is started in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telemetry_site.embedded.paths import DATA_DIR_VARIABLE, DataFolder
from telemetry_site.embedded.server_account import ServerAccount
from telemetry_site.env import InvalidSetting


@contextmanager
def lock_data_folder(data_folder: DataFolder) -> Iterator[None]:
    """Create and lock the data folder. The kernel releases the lock when the process ends. Raises InvalidSetting."""
    path = data_folder.path / "lock"
    try:
        data_folder.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    except OSError as error:
        raise InvalidSetting(
            DATA_DIR_VARIABLE, str(data_folder.path), f"a writable folder is required ({error.strerror})"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = file.read().strip() or "unknown"
            raise InvalidSetting(
                DATA_DIR_VARIABLE,
                str(data_folder.path),
                f"process {holder} already uses this folder; stop it or choose another folder",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def make_run_dir(data_folder: DataFolder, account: ServerAccount) -> None:
    """Create the folder of the sockets. Raises InvalidSetting.

    It can be inside a world-writable folder, so an existing folder of another user is rejected.
    """
    run_dir = data_folder.run_dir
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = run_dir.lstat()
    if not _is_plain_folder(run_dir) or status.st_uid not in {os.geteuid(), account.uid}:
        raise InvalidSetting(
            DATA_DIR_VARIABLE,
            str(data_folder.path),
            f"its path is too long for sockets, and {run_dir} belongs to another user",
        )
    run_dir.chmod(0o700)
    account.take_ownership(run_dir)


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
