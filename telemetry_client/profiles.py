"""Profiles: names for the URL of a site and an API key or a sign-in, in a file that only its owner can read.

With `keyring`, the file has no secrets: they are in the keyring of the system, by the optional package `keyring`.

TELEMETRY_URL and TELEMETRY_API_KEY of the environment replace the profile, unless a profile is named explicitly.
"""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from telemetry_client import system_keyring
from telemetry_client.errors import InvalidInput, NoProfile

DEFAULT = "default"
SECRETS = ("api_key", "access_token", "refresh_token", "expires_at")
FIELDS = {"url", "user", "keyring", *SECRETS}


@dataclass(frozen=True)
class Profile:
    """A site and the credential for it: an API key, or the tokens of a user.

    expires_at  time at which the access token ends, in seconds since 1970
    keyring     whether the credential is in the keyring of the system
    """

    url: str
    api_key: str = field(default="", repr=False)
    name: str = ""
    user: str = ""
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    expires_at: float = 0.0
    keyring: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", check_url(self.url))


def check_url(text: str) -> str:
    """Return the URL of a site without a slash at its end. Raises InvalidInput."""
    try:
        parts = urlsplit(text.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or parts.username or parts.query or parts.fragment:
        raise InvalidInput(f"{text!r} is not the URL of a site: http://HOST:PORT or https://HOST is accepted")
    return text.strip().rstrip("/")


def config_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this user's settings."""
    base = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME") or Path.home()) / ".config")
    return Path(base) / "telemetry"


class ProfileFile:
    """The file with the profiles of a user."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or config_folder() / "profiles.json"

    def read(self) -> dict[str, Any]:
        """Return the name of the profile in use, and all profiles. Raises InvalidInput."""
        empty: dict[str, Any] = {"current": "", "profiles": {}}
        try:
            with self.path.open(encoding="utf-8") as file:
                if os.name == "posix" and os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise InvalidInput(
                        f"{self.path} has API keys and can be read by other users: run chmod 600 {self.path}"
                    )
                document = json.load(file)
        except FileNotFoundError:
            return empty
        except OSError as error:
            raise InvalidInput(f"{self.path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise InvalidInput(f"{self.path} is not valid JSON: {error}") from None
        profiles = document.get("profiles") if isinstance(document, dict) else None
        if not isinstance(profiles, dict) or not all(
            isinstance(p, dict) and isinstance(p.get("url"), str) and _has_types(p) for p in profiles.values()
        ):
            raise InvalidInput(f'{self.path} must be an object with "profiles", each with "url" and "api_key"')
        return {**empty, **document}

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the file; a crash leaves the old one."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                json.dump(document, file, indent=2)
                file.write("\n")
            new.replace(self.path)
        except OSError as error:
            raise InvalidInput(f"{self.path} cannot be written: {error.strerror}") from None

    def save(self, profile: Profile) -> None:
        """Store a profile and make it the one in use."""
        self.update(profile)
        self.write(self.read() | {"current": profile.name})

    def update(self, profile: Profile) -> None:
        """Store a profile."""
        document = self.read()
        stored: dict[str, Any] = {"url": profile.url} | ({"user": profile.user} if profile.user else {})
        secrets = {name: value for name in SECRETS if (value := getattr(profile, name))}
        if profile.keyring:
            system_keyring.store(profile.name, secrets)
            stored["keyring"] = True
        else:
            stored |= secrets
        document["profiles"][profile.name] = stored
        self.write(document)

    def get(self, name: str) -> Profile:
        """Return a profile. Raises NoProfile."""
        document = self.read()
        _require(document, name)
        stored = {field: value for field, value in document["profiles"][name].items() if field in FIELDS}
        if stored.get("keyring"):
            stored |= {field: value for field, value in system_keyring.load(name).items() if field in SECRETS}
        return Profile(**stored, name=name)

    def use(self, name: str) -> None:
        """Make a profile the one in use. Raises NoProfile."""
        document = self.read()
        _require(document, name)
        self.write(document | {"current": name})

    def remove(self, name: str) -> None:
        """Delete a profile. Raises NoProfile."""
        document = self.read()
        _require(document, name)
        if document["profiles"][name].get("keyring"):
            system_keyring.delete(name)
        del document["profiles"][name]
        if document["current"] == name:
            document["current"] = ""
        self.write(document)


def _has_types(profile: Mapping[str, Any]) -> bool:
    texts = all(isinstance(profile.get(name, ""), str) for name in ("api_key", "access_token", "refresh_token", "user"))
    return texts and isinstance(profile.get("expires_at", 0.0), int | float)


def _require(document: Mapping[str, Any], name: str) -> None:
    if name not in document["profiles"]:
        known = ", ".join(sorted(document["profiles"])) or "none"
        raise NoProfile(f"there is no profile {name!r}; profiles: {known}")


def find_profile(
    name: str = "", environment: Mapping[str, str] = os.environ, file: ProfileFile | None = None
) -> Profile:
    """Return the profile of this name, else that of the environment, else the one in use. Raises NoProfile."""
    file = file or ProfileFile()
    name = name or environment.get("TELEMETRY_PROFILE", "") if not environment.get("TELEMETRY_URL") else name
    if name:
        return file.get(name)
    url, key = environment.get("TELEMETRY_URL", ""), environment.get("TELEMETRY_API_KEY", "")
    if url and key:
        return Profile(url, key)
    current = file.read()["current"]
    stored = file.get(current) if current else None
    if url:  # the key of a profile is only for the URL of this profile
        same = stored is not None and stored.url == check_url(url)
        return stored if same and stored is not None else Profile(url)
    if stored is None:
        raise NoProfile("no site is configured: run telemetry login URL, or set TELEMETRY_URL and TELEMETRY_API_KEY")
    return Profile(stored.url, key) if key else stored
