"""Where the embedded servers keep their files and sockets, known without starting anything."""

import hashlib
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from telemetry_site.env import BadSetting

DATA_DIR_VARIABLE = "TELEMETRY_DATA_DIR"
SOCKET_PATH_LIMIT = 100  # the kernel's sockaddr_un holds 104 (macOS) to 108 bytes, its end included
POSTGRES_PORT = 5432  # names the socket file only; nothing listens on TCP
DATABASE_NAME = "telemetry"
DATABASE_USER = "telemetry"


@dataclass(frozen=True)
class Embedded:
    """The embedded PostgreSQL and Valkey of one data folder."""

    data_dir: Path

    @property
    def postgres_dir(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def valkey_dir(self) -> Path:
        return self.data_dir / "valkey"

    @property
    def run_dir(self) -> Path:
        """The folder of the sockets: in the data folder, or in a short place where that path is too long.

        Not in $XDG_RUNTIME_DIR: a command that cron or another login runs has to find the same sockets.
        """
        here = self.data_dir / "run"
        if len(os.fsencode(here)) + len("/.s.PGSQL.5432") <= SOCKET_PATH_LIMIT:
            return here
        name = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path("/tmp") / f"telemetry-{name}"  # noqa: S108

    @property
    def valkey_socket(self) -> Path:
        return self.run_dir / "valkey.sock"

    def log(self, name: str) -> Path:
        """Where a process of this installation writes what it has to say."""
        return self.data_dir / "logs" / f"{name}.log"

    @property
    def database(self) -> dict[str, str]:
        """libpq's parameters of the embedded database."""
        return {"dbname": DATABASE_NAME, "user": DATABASE_USER, "host": str(self.run_dir), "port": str(POSTGRES_PORT)}

    @property
    def redis_url(self) -> str:
        return f"unix://{self.valkey_socket}"

    @property
    def admin_password_file(self) -> Path:
        return self.data_dir / "admin_password"

    @property
    def api_key_file(self) -> Path:
        return self.data_dir / "api_key"

    @property
    def host_collector_key_file(self) -> Path:
        return self.data_dir / "host_collector_key"

    def host_device_id(self) -> str:
        """What this machine calls itself as a device: its name when it was first asked, whatever it is called later."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-.")
        return self.kept_secret("host_device_id", lambda: name or "this-machine")

    def secret_key(self) -> str:
        """Django's secret key: made once and kept in the data folder, readable by its owner alone."""
        return self.kept_secret("secret_key", lambda: secrets.token_urlsafe(48))

    def kept_secret(self, name: str, make: Callable[[], str], given: str = "") -> str:
        """The `given` text, else the one that is kept in the file `name`, else a new one, kept from now on."""
        if given:
            return given
        path = self.data_dir / name
        try:
            return self._read_or_make(path, make)
        except OSError as error:
            wanted = f"a folder that this user can read and write is needed ({error.strerror}: {error.filename})"
            raise BadSetting(DATA_DIR_VARIABLE, str(self.data_dir), wanted) from None

    def _read_or_make(self, path: Path, make: Callable[[], str]) -> str:
        if not path.exists():
            self.data_dir.mkdir(parents=True, exist_ok=True)
            descriptor, whole = tempfile.mkstemp(dir=self.data_dir)  # 0600; it gets its name once it is whole
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(make() + "\n")
                    file.flush()
                    os.fsync(descriptor)
                with suppress(FileExistsError):  # another process of this installation was a moment faster
                    path.hardlink_to(whole)
            finally:
                Path(whole).unlink()
        return path.read_text().strip()
