"""A keyring in a file, as the keyring of the system of a test."""

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

FILE = Path(os.environ.get("TEST_KEYRING_FILE", "/nonexistent"))


class FileKeyring(KeyringBackend):
    priority = 1  # type: ignore[assignment]

    def _read(self) -> dict[str, str]:
        if os.environ.get("TEST_KEYRING_LOCKED"):
            raise KeyringLocked("the keyring is locked")
        return dict(json.loads(FILE.read_text())) if FILE.exists() else {}

    def get_password(self, service: str, username: str) -> str | None:
        return self._read().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        FILE.write_text(json.dumps(self._read() | {f"{service} {username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        FILE.write_text(
            json.dumps({name: text for name, text in self._read().items() if name != f"{service} {username}"})
        )
