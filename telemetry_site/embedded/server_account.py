"""The unprivileged account that runs the embedded servers and the site's processes when root starts the site.

PostgreSQL refuses to run as root. If root runs `make run`, both servers run under an unprivileged account,
even if the data folder is below a folder such as /root that this account cannot enter. No permissions are
changed: the folders are opened before the privileges are dropped, and the servers use /proc/self/fd/N.
"""

import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetry_site.embedded.paths import DATA_DIR_VARIABLE
from telemetry_site.env import InvalidSetting

UNPRIVILEGED_ACCOUNTS = ("telemetry", "nobody")


@dataclass(frozen=True)
class ServerAccount:
    """An operating system account that runs servers and processes of the site."""

    name: str
    uid: int
    gid: int

    @property
    def is_another_user(self) -> bool:
        return self.uid != os.geteuid()

    def popen_arguments(self) -> dict[str, Any]:
        """Return the subprocess arguments that switch to this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_another_user else {}

    def environment(self) -> dict[str, str]:
        """Return the environment variables that describe this account, such as its home folder."""
        return {"HOME": pwd.getpwuid(self.uid).pw_dir, "USER": self.name, "LOGNAME": self.name}

    def write_file(self, path: Path, text: str) -> None:
        """Replace a file by one of this account with mode 0600.

        The account can write to the folder, so a symbolic link there must not lead root to another file.
        """
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchown(descriptor, self.uid, self.gid)
            file.write(text)

    def take_ownership(self, folder: Path) -> None:
        """Create `folder` with mode 0700 if needed, and make this account the owner of everything in it."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.is_another_user or folder.stat().st_uid == self.uid:
            return
        for parent, _, files in os.walk(folder):
            for path in [parent, *(os.path.join(parent, name) for name in files)]:
                os.chown(path, self.uid, self.gid, follow_symlinks=False)

    @contextmanager
    def open_folders(self, *folders: Path) -> Iterator[tuple[list[str], tuple[int, ...]]]:
        """Yield the paths by which this account can open `folders`, and the file descriptors that it must inherit."""
        if not (self.is_another_user and sys.platform == "linux"):
            yield [str(folder) for folder in folders], ()
            return
        descriptors = tuple(os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in folders)
        try:
            yield [f"/proc/self/fd/{descriptor}" for descriptor in descriptors], descriptors
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def server_account(postgres_dir: Path) -> ServerAccount:
    """Return the account for the servers.

    It is the current account. For root it is the owner of an existing server folder, else an unprivileged account.
    """
    if os.geteuid() != 0:
        return _current_account(postgres_dir)
    if postgres_dir.is_dir() and (owner := postgres_dir.stat().st_uid) != 0:
        return _account_of(owner)
    for name in UNPRIVILEGED_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerAccount(name, entry.pw_uid, entry.pw_gid)
    raise InvalidSetting(
        "USER",
        "root",
        f"to start the servers as root, one of these accounts must exist: {', '.join(UNPRIVILEGED_ACCOUNTS)}",
    )


def _current_account(postgres_dir: Path) -> ServerAccount:
    account = _account_of(os.geteuid())
    if postgres_dir.is_dir() and (owner := postgres_dir.stat().st_uid) != account.uid:
        raise InvalidSetting(
            DATA_DIR_VARIABLE,
            str(postgres_dir.parent),
            f"its database belongs to user {_name_of(owner)}: run as that user, or choose another folder",
        )
    return account


def _account_of(uid: int) -> ServerAccount:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # initdb and peer authentication look up the name
        raise InvalidSetting("USER", str(uid), "PostgreSQL needs a user that has an account name") from None
    return ServerAccount(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
