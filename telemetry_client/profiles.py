"""Profiles: names for the URL and API key of a site, in a file that only its owner can read.

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

from telemetry_client.errors import InvalidInput, NoProfile

DEFAULT = "default"


@dataclass(frozen=True)
class Profile:
    """A site and the credential for it."""

    url: str
    api_key: str = field(default="", repr=False)
    name: str = ""

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
            isinstance(p, dict) and isinstance(p.get("url"), str) and isinstance(p.get("api_key", ""), str)
            for p in profiles.values()
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
        document = self.read()
        document["profiles"][profile.name] = {"url": profile.url, "api_key": profile.api_key}
        self.write(document | {"current": profile.name})

    def get(self, name: str) -> Profile:
        """Return a profile. Raises NoProfile."""
        profiles = self.read()["profiles"]
        if name not in profiles:
            known = ", ".join(sorted(profiles)) or "none"
            raise NoProfile(f"there is no profile {name!r}; profiles: {known}")
        return Profile(profiles[name]["url"], profiles[name].get("api_key", ""), name)

    def use(self, name: str) -> None:
        """Make a profile the one in use. Raises NoProfile."""
        self.get(name)
        self.write(self.read() | {"current": name})

    def remove(self, name: str) -> None:
        """Delete a profile. Raises NoProfile."""
        self.get(name)
        document = self.read()
        del document["profiles"][name]
        if document["current"] == name:
            document["current"] = ""
        self.write(document)


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
        return Profile(url, stored.api_key if same and stored else "")
    if stored is None:
        raise NoProfile("no site is configured: run telemetry login URL, or set TELEMETRY_URL and TELEMETRY_API_KEY")
    return Profile(stored.url, key or stored.api_key, stored.name)
