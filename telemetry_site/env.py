"""The only place that reads the environment.

Each reader names the variable and what it accepts when the value is wrong, so that one line on the
terminal is enough to mend it. Nothing here imports Django: `manage.py up` reads settings before
anything heavy is loaded.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BASE_DIR = Path(__file__).resolve().parent.parent


class BadSetting(Exception):
    """An environment variable has a value that cannot be used; the message is one line."""

    def __init__(self, name: str, value: str, accepted: str) -> None:
        super().__init__(f"{name}={value!r} cannot be used: {accepted}")


def without_password(url: str) -> str:
    """The address as it may be shown."""
    url = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"(?<=password=)[^&\s]*", "***", url)


@dataclass(frozen=True)
class Environment:
    """Typed readers over a mapping of variables."""

    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def text(self, name: str, default: str = "") -> str:
        return self.variables.get(name, "").strip() or default

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        raw = self.text(name)
        if not raw:
            return default
        if not raw.isascii() or not raw.isdigit() or not low <= int(raw) <= high:
            raise BadSetting(name, raw, f"a whole number from {low} to {high} is accepted")
        return int(raw)

    def switch(self, name: str, default: bool) -> bool:
        raw = self.text(name).lower()
        if not raw:
            return default
        if raw in {"on", "true", "1", "yes"}:
            return True
        if raw in {"off", "false", "0", "no"}:
            return False
        raise BadSetting(name, raw, "on or off is accepted")

    def choice(self, name: str, default: str, accepted: tuple[str, ...]) -> str:
        raw = self.text(name, default).lower()
        if raw not in accepted:
            raise BadSetting(name, raw, f"{', '.join(accepted[:-1])} or {accepted[-1]} is accepted")
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
            raise BadSetting(name, without_password(raw), f"an address like {shapes} is accepted")
        return raw

    def folder(self, name: str, default: Path) -> Path:
        raw = self.text(name)
        path = Path(raw).expanduser() if raw else default
        return path if path.is_absolute() else (BASE_DIR / path).resolve()

    def words(self, name: str) -> list[str]:
        return [word.strip() for word in self.text(name).split(",") if word.strip()]

    def networks(self, name: str) -> list[Network]:
        found = []
        for one in self.words(name):
            try:
                found.append(ipaddress.ip_network(one))
            except ValueError:
                raise BadSetting(name, one, "networks such as 10.0.0.0/8 or fd00::/8 are accepted") from None
        return found

    def paths(self, name: str) -> dict[str, str]:
        """Python functions by a name: `name=package.module.function, …`."""
        found = {}
        for one in self.words(name):
            if not re.fullmatch(r"[A-Za-z]\w*\s*=\s*[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", one, re.ASCII):
                raise BadSetting(name, one, "entries such as page_on_call=our_package.module.function are accepted")
            key, _, path = one.partition("=")
            found[key.strip()] = path.strip()
        return found

    def origins(self, name: str) -> list[str]:
        """Origins of web pages, or `*` alone."""
        found = self.words(name)
        if found == ["*"]:
            return found
        for one in found:
            if not re.fullmatch(r"https?://[a-z0-9.-]+(?::\d{1,5})?|https?://\[[0-9a-f:]+\](?::\d{1,5})?", one):
                raise BadSetting(name, one, "origins like https://dashboard.example.com, or * alone, are accepted")
        return found

    def rate(self, name: str, default: tuple[float, float] | None) -> tuple[float, float] | None:
        """(requests a second, requests at once); None where there is no limit."""
        raw = self.text(name).lower()
        if not raw:
            return default
        if raw == "off":
            return None
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(?::(\d{1,9}))?", raw)
        rate = float(found[1]) if found else 0.0
        burst = float(found[2]) if found and found[2] else max(1.0, 2 * rate)
        if rate <= 0 or burst < 1:
            accepted = "requests a second such as 50, with a burst such as 50:200, or off is accepted"
            raise BadSetting(name, raw, accepted)
        return rate, burst

    def read(self, name: str, read: Callable[[str], T], default: str) -> T:
        """What `read` makes of the text; a ValueError of its own says what is accepted. The text may hold secrets."""
        raw = self.text(name)
        try:
            return read(raw or default)
        except ValueError as error:
            raise BadSetting(name, raw[:4] + "…", str(error)) from None

    def host(self, name: str, default: str) -> str:
        raw = self.text(name, default)
        try:
            ipaddress.ip_address(raw)
        except ValueError:
            if raw != "localhost":
                raise BadSetting(name, raw, "an IP address such as 127.0.0.1 or 0.0.0.0 is accepted") from None
        return raw

    def key(self, name: str) -> str:
        """An API key given from outside: at least 128 bits' worth of plain characters."""
        raw = self.text(name)
        if raw and (len(raw) < 22 or not raw.isascii() or not raw.isprintable() or " " in raw):
            raise BadSetting(name, raw[:4] + "…", "at least 22 printable characters without spaces are accepted")
        return raw
