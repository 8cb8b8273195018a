"""Who runs the embedded servers, and how that account reaches their folders.

PostgreSQL refuses to run as root. When root types `make run`, both servers run under an unprivileged
account instead, also when the data folder lies below a folder such as /root that this account may not
enter. Nobody's permissions are changed for that: the folders are opened before the privileges are
dropped, and the servers know them as /proc/self/fd/N.
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
from telemetry_site.env import BadSetting

UNPRIVILEGED = ("telemetry", "nobody")


@dataclass(frozen=True)
class Account:
    """The account that the servers run under."""

    name: str
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def popen(self) -> dict[str, Any]:
        """The arguments of subprocess that drop to this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other else {}

    def own(self, folder: Path) -> None:
        """Make `folder` (0700) and everything in it this account's."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.is_other or folder.stat().st_uid == self.uid:
            return
        for parent, _, files in os.walk(folder):
            for path in [parent, *(os.path.join(parent, name) for name in files)]:
                os.chown(path, self.uid, self.gid, follow_symlinks=False)

    @contextmanager
    def reaching(self, *folders: Path) -> Iterator[tuple[list[str], tuple[int, ...]]]:
        """The folders' paths as this account may use them, and the descriptors to pass on."""
        if not (self.is_other and sys.platform == "linux"):
            yield [str(folder) for folder in folders], ()
            return
        descriptors = tuple(os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in folders)
        try:
            yield [f"/proc/self/fd/{descriptor}" for descriptor in descriptors], descriptors
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def server_account(postgres_dir: Path) -> Account:
    """One's own account; as root the owner of the existing servers' folder, else an unprivileged one."""
    if os.geteuid() != 0:
        return _own_account(postgres_dir)
    if postgres_dir.is_dir() and (owner := postgres_dir.stat().st_uid) != 0:
        return _account_of(owner)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise BadSetting("USER", "root", f"as root the servers need one of the accounts {', '.join(UNPRIVILEGED)}")


def _own_account(postgres_dir: Path) -> Account:
    account = _account_of(os.geteuid())
    if postgres_dir.is_dir() and (owner := postgres_dir.stat().st_uid) != account.uid:
        raise BadSetting(
            DATA_DIR_VARIABLE,
            str(postgres_dir.parent),
            f"its database belongs to user {_name_of(owner)}: run as that user, or name another folder",
        )
    return account


def _account_of(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # PostgreSQL's initdb and peer authentication both look the name up
        raise BadSetting("USER", str(uid), "a user with an account name is needed to start PostgreSQL") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
