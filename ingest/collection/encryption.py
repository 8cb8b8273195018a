"""Encryption of the secrets of collectors at rest, with keys of TELEMETRY_SECRETS_KEYS or of a file in the data folder.

The first key encrypts, all decrypt. `manage.py rotate_secrets` encrypts everything with a new first key.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from rest.errors import TelemetryError


class SecretsUnreadable(TelemetryError):
    """None of the keys decrypts the stored secrets."""

    status = 409


def encrypt(secrets: dict[str, str]) -> str:
    """Return the encrypted secrets; an empty text for none."""
    return _fernet().encrypt(msgspec.json.encode(secrets)).decode() if secrets else ""


def decrypt(token: str) -> dict[str, str]:
    """Return secrets by name. Raises SecretsUnreadable."""
    if not token:
        return {}
    try:
        return msgspec.json.decode(_fernet().decrypt(token), type=dict[str, str])
    except InvalidToken:
        raise SecretsUnreadable(
            "the stored secrets cannot be decrypted: enter them again, or add their key to TELEMETRY_SECRETS_KEYS"
        ) from None


def rotate(token: str) -> str:
    """Return the same secrets, encrypted with the first key. Raises SecretsUnreadable."""
    return encrypt(decrypt(token))


def add_key() -> None:
    """Write a new first key to the file; the former first key still decrypts."""
    _write_keys([Fernet.generate_key().decode(), _keys()[0]])


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in _keys()])


def _keys() -> Sequence[str]:
    """Return the keys. The file is read each time, since another process may rotate them."""
    if settings.SECRETS_KEYS:
        return settings.SECRETS_KEYS
    keys: list[str] = settings.EMBEDDED.secrets_keys()
    return keys


def _write_keys(keys: Sequence[str]) -> None:
    path: Path = settings.EMBEDDED.secrets_keys_file
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(keys) + "\n")
        file.flush()
        os.fsync(descriptor)
    if os.geteuid() == 0:  # started by root, the site runs under another account, which owns the file
        owner = path.stat()
        os.chown(temporary, owner.st_uid, owner.st_gid)
    Path(temporary).replace(path)
