"""The data folder: made, checked and locked before anything is started in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telemetry_site.embedded.account import Account
from telemetry_site.embedded.paths import DATA_DIR_VARIABLE, Embedded
from telemetry_site.env import BadSetting


@contextmanager
def locked(place: Embedded) -> Iterator[None]:
    """Hold the data folder alone. The kernel lets go of the lock when its holder ends, however it ends."""
    path = place.data_dir / "lock"
    try:
        place.data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    except OSError as error:
        raise BadSetting(
            DATA_DIR_VARIABLE, str(place.data_dir), f"a folder that can be written is needed ({error.strerror})"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = file.read().strip() or "unknown"
            raise BadSetting(
                DATA_DIR_VARIABLE,
                str(place.data_dir),
                f"process {holder} already runs there; name another folder, or stop it first",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def make_run_dir(place: Embedded, account: Account) -> None:
    """The sockets' folder. It may lie in a place that everyone may write, so what is found there is not trusted."""
    run_dir = place.run_dir
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = run_dir.lstat()
    if not _is_plain_folder(run_dir) or found.st_uid not in {os.geteuid(), account.uid}:
        raise BadSetting(
            DATA_DIR_VARIABLE,
            str(place.data_dir),
            f"its path is too long for sockets, and {run_dir} is somebody else's",
        )
    run_dir.chmod(0o700)
    account.own(run_dir)


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
