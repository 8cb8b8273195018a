"""Secrets in the keyring of the system, by the optional package `keyring`."""

import json
from collections.abc import Mapping
from typing import Any

from telemetry_client.errors import InvalidInput

SERVICE = "telemetry"


def _keyring() -> Any:
    try:
        import keyring
    except ImportError:
        raise InvalidInput("the keyring needs the package keyring: pip install keyring") from None
    return keyring


def store(name: str, secrets: Mapping[str, Any]) -> None:
    """Store the secrets of a profile. Raises InvalidInput."""
    keyring = _keyring()
    _call(keyring, keyring.set_password, name, json.dumps(secrets))


def load(name: str) -> dict[str, Any]:
    """Return the secrets of a profile. Raises InvalidInput."""
    keyring = _keyring()
    text = _call(keyring, keyring.get_password, name)
    try:
        secrets = json.loads(text or "")
    except ValueError:
        secrets = None
    if not isinstance(secrets, dict):
        raise InvalidInput(f"the keyring has no secrets of the profile {name}: run telemetry login again")
    return secrets


def delete(name: str) -> None:
    """Delete the secrets of a profile, if there are any. Raises InvalidInput."""
    keyring = _keyring()
    if _call(keyring, keyring.get_password, name) is not None:
        _call(keyring, keyring.delete_password, name)


def _call(keyring: Any, function: Any, *arguments: str) -> Any:
    try:
        return function(SERVICE, *arguments)
    except keyring.errors.KeyringError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInput(f"the keyring cannot be used: {reason[:200]}") from None
