"""Reading and validating environment variables.

The error of an invalid value names the variable and the accepted values. This module does not import Django, because
`manage.py up` reads the settings without it.
"""

import base64
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

Value = TypeVar("Value")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BASE_DIR = Path(__file__).resolve().parent.parent
MIN_KEY_LENGTH = 22  # characters: 128 bits in base64
FERNET_KEY_BYTES = 32


class InvalidSetting(Exception):
    """An environment variable has an invalid value; the message is one line."""

    def __init__(self, name: str, value: str, accepted: str) -> None:
        super().__init__(f"{name}={value!r} is invalid: {accepted}")


def without_password(url: str) -> str:
    """Return `url` with its password masked."""
    url = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"(?<=password=)[^&\s]*", "***", url)


def parse_fernet_keys(text: str) -> list[str]:
    """Read comma-separated Fernet keys. Raises ValueError."""
    keys = [key.strip() for key in text.split(",") if key.strip()]
    for key in keys:
        try:
            is_valid = len(base64.b64decode(key, b"-_", validate=True)) == FERNET_KEY_BYTES
        except ValueError:
            is_valid = False
        if not is_valid:
            raise ValueError("keys of 32 bytes in URL-safe base64 are accepted, as Fernet.generate_key() returns them")
    return keys


@dataclass(frozen=True)
class Environment:
    """Typed access to environment variables. Methods raise InvalidSetting for invalid values."""

    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def text(self, name: str, default: str = "") -> str:
        return self.variables.get(name, "").strip() or default

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        raw = self.text(name)
        if not raw:
            return default
        if not raw.isascii() or not raw.isdigit() or not low <= int(raw) <= high:
            raise InvalidSetting(name, raw, f"a whole number from {low} to {high} is accepted")
        return int(raw)

    def switch(self, name: str, default: bool) -> bool:
        raw = self.text(name).lower()
        if not raw:
            return default
        if raw in {"on", "true", "1", "yes"}:
            return True
        if raw in {"off", "false", "0", "no"}:
            return False
        raise InvalidSetting(name, raw, "on or off is accepted")

    def choice(self, name: str, default: str, accepted: tuple[str, ...]) -> str:
        raw = self.text(name, default).lower()
        if raw not in accepted:
            raise InvalidSetting(name, raw, f"{', '.join(accepted[:-1])} or {accepted[-1]} is accepted")
        return raw

    def url(self, name: str, schemes: tuple[str, ...]) -> str:
        raw = self.text(name)
        if not raw:
            return ""
        try:
            parts = urlsplit(raw)
            named = parts.hostname is not None or bool(parts.query or parts.path.strip("/"))
            usable = parts.scheme in schemes and named
            _ = parts.port
        except ValueError:
            usable = False
        if not usable:
            shapes = " or ".join(f"{scheme}://…" for scheme in schemes)
            raise InvalidSetting(name, without_password(raw), f"an address like {shapes} is accepted")
        return raw

    def addresses(self, name: str, schemes: tuple[str, ...]) -> str:
        """Read one or more comma-separated URLs."""
        for address in self.words(name):
            Environment({name: address}).url(name, schemes)
        return ",".join(self.words(name))

    def folder(self, name: str, default: Path) -> Path:
        raw = self.text(name)
        path = Path(raw).expanduser() if raw else default
        return path if path.is_absolute() else (BASE_DIR / path).resolve()

    def words(self, name: str) -> list[str]:
        return [word.strip() for word in self.text(name).split(",") if word.strip()]

    def word(self, name: str, default: str) -> str:
        """Read a name of ASCII letters, digits, `_` and `-`."""
        raw = self.text(name, default)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", raw):
            raise InvalidSetting(name, raw, "1 to 64 letters, digits, _ and - are accepted")
        return raw

    def networks(self, name: str) -> list[Network]:
        networks = []
        for text in self.words(name):
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError:
                raise InvalidSetting(name, text, "networks such as 10.0.0.0/8 or fd00::/8 are accepted") from None
        return networks

    def paths(self, name: str) -> dict[str, str]:
        """Read `name=package.module.function, …`; return the dotted paths by name."""
        paths = {}
        for entry in self.words(name):
            if not re.fullmatch(r"[A-Za-z]\w*\s*=\s*[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", entry, re.ASCII):
                raise InvalidSetting(
                    name, entry, "entries such as page_on_call=our_package.module.function are accepted"
                )
            key, _, path = entry.partition("=")
            paths[key.strip()] = path.strip()
        return paths

    def origins(self, name: str) -> list[str]:
        """Read the origins of web pages, or `*` alone."""
        origins = self.words(name)
        if origins == ["*"]:
            return origins
        for origin in origins:
            if not re.fullmatch(r"https?://[a-z0-9.-]+(?::\d{1,5})?|https?://\[[0-9a-f:]+\](?::\d{1,5})?", origin):
                raise InvalidSetting(
                    name, origin, "origins like https://dashboard.example.com, or * alone, are accepted"
                )
        return origins

    def rate(self, name: str, default: tuple[float, float] | None) -> tuple[float, float] | None:
        """Return (requests per second, burst); None if `off`."""
        raw = self.text(name).lower()
        if not raw:
            return default
        if raw == "off":
            return None
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(?::(\d{1,9}))?", raw)
        rate = float(match[1]) if match else 0.0
        burst = float(match[2]) if match and match[2] else max(1.0, 2 * rate)
        if rate <= 0 or burst < 1:
            accepted = "requests per second such as 50, with a burst such as 50:200, or off is accepted"
            raise InvalidSetting(name, raw, accepted)
        return rate, burst

    def parsed(self, name: str, parse: Callable[[str], Value], default: str) -> Value:
        """Return `parse(text)`; its ValueError names the accepted values. The text can contain secrets."""
        raw = self.text(name)
        try:
            return parse(raw or default)
        except ValueError as error:
            raise InvalidSetting(name, raw[:4] + "…", str(error)) from None

    def host(self, name: str, default: str) -> str:
        raw = self.text(name, default)
        try:
            ipaddress.ip_address(raw)
        except ValueError:
            if raw != "localhost":
                raise InvalidSetting(name, raw, "an IP address such as 127.0.0.1 or 0.0.0.0 is accepted") from None
        return raw

    def key(self, name: str) -> str:
        """Read an API key of at least MIN_KEY_LENGTH printable characters."""
        raw = self.text(name)
        if raw and (len(raw) < MIN_KEY_LENGTH or not raw.isascii() or not raw.isprintable() or " " in raw):
            raise InvalidSetting(
                name, raw[:4] + "…", f"at least {MIN_KEY_LENGTH} printable characters without spaces are required"
            )
        return raw
