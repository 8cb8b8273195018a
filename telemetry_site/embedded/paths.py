"""Paths of the data folder: files, sockets and logs of one installation."""

import base64
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

from telemetry_site.env import InvalidSetting

DATA_DIR_VARIABLE = "TELEMETRY_DATA_DIR"
SOCKET_PATH_LIMIT = 100  # bytes; sockaddr_un has 104 (macOS) to 108 bytes including the terminating zero
POSTGRES_PORT = 5432  # part of the socket file's name; no TCP port is opened
DATABASE_NAME = "telemetry"
DATABASE_USER = "telemetry"


@dataclass(frozen=True)
class DataFolder:
    """The data folder of one installation, with the embedded PostgreSQL and Valkey."""

    path: Path

    @property
    def postgres_dir(self) -> Path:
        return self.path / "postgres"

    @property
    def valkey_dir(self) -> Path:
        return self.path / "valkey"

    @property
    def run_dir(self) -> Path:
        """The folder of the sockets: below the data folder, or below /tmp if that path is too long for a socket.

        $XDG_RUNTIME_DIR is not used, so that commands of cron and of other logins find the same sockets.
        """
        folder = self.path / "run"
        if len(os.fsencode(folder)) + len("/.s.PGSQL.5432") <= SOCKET_PATH_LIMIT:
            return folder
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return Path("/tmp") / f"telemetry-{name}"  # noqa: S108

    @property
    def valkey_socket(self) -> Path:
        return self.run_dir / "valkey.sock"

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.path / "logs" / f"{name}.log"

    @property
    def database(self) -> dict[str, str]:
        """The libpq connection parameters of the embedded database."""
        return {"dbname": DATABASE_NAME, "user": DATABASE_USER, "host": str(self.run_dir), "port": str(POSTGRES_PORT)}

    @property
    def redis_url(self) -> str:
        return f"unix://{self.valkey_socket}"

    @property
    def admin_password_file(self) -> Path:
        return self.path / "admin_password"

    @property
    def api_key_file(self) -> Path:
        return self.path / "api_key"

    @property
    def host_collector_key_file(self) -> Path:
        return self.path / "host_collector_key"

    @property
    def host_agent_dir(self) -> Path:
        """The folder of the queue of this machine's agent."""
        return self.path / "host_agent"

    def host_device_id(self) -> str:
        """Return the device ID of this machine: its hostname at the first call, stored in the data folder."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-.")
        return self.stored_secret("host_device_id", lambda: name or "this-machine")

    def secret_key(self) -> str:
        """Return Django's secret key, generated once and stored in the data folder."""
        return self.stored_secret("secret_key", lambda: secrets.token_urlsafe(48))

    @property
    def secrets_keys_file(self) -> Path:
        return self.path / "secrets_keys"

    def secrets_keys(self) -> list[str]:
        """Return the Fernet keys of stored secrets; the first is generated once and stored in the data folder."""
        text = self.stored_secret(
            self.secrets_keys_file.name, lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        )
        return text.split()

    def stored_secret(self, name: str, generate: Callable[[], str], configured: str = "") -> str:
        """Return the `configured` text, else the content of file `name`, else a generated text stored in it.

        Only the owner of the file can read it. Raises InvalidSetting if the data folder is not usable.
        """
        if configured:
            return configured
        path = self.path / name
        try:
            return self._read_or_generate(path, generate)
        except OSError as error:
            accepted = f"a folder that this user can read and write is required ({error.strerror}: {error.filename})"
            raise InvalidSetting(DATA_DIR_VARIABLE, str(self.path), accepted) from None

    def _read_or_generate(self, path: Path, generate: Callable[[], str]) -> str:
        if not path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self.path)  # mode 0600; renamed when complete
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(generate() + "\n")
                    file.flush()
                    os.fsync(descriptor)
                with suppress(FileExistsError):  # another process of this installation created it at the same time
                    path.hardlink_to(temporary)
            finally:
                Path(temporary).unlink()
        return path.read_text().strip()
