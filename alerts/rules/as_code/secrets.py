"""Secrets of a file: names of the environment in their place, such as `${SLACK_URL}`."""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping

_NAMED = re.compile(r"\$(?:\$|\{([^}]*)\})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class NotThere(ValueError):
    """A secret cannot be filled in; says which name is at fault, and never what another one holds."""


def fill_in(written: str, environment: Mapping[str, str]) -> str:
    """The text with what the environment holds; `$$` is a dollar sign. Raises NotThere."""

    def found(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        if not _NAME.match(name):
            raise NotThere(f"{match[0]:.60} names no variable; ${{NAME}} is accepted, and $$ for a dollar sign")
        if not environment.get(name):
            raise NotThere(f"{name} is not set in the environment")
        return environment[name]

    return _NAMED.sub(found, written)


def in_clear(secret: str) -> str:
    """As a file says it itself."""
    return secret.replace("$", "$$")


def placeholders(names: Iterable[str]) -> dict[str, str]:
    """A prefix of variables for each of these different names: those that would share one get a checksum besides."""
    plain = {name: re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_") or "CHANNEL" for name in names}
    plain = {name: f"CHANNEL_{made}" if made[0].isdigit() else made for name, made in plain.items()}
    shared = Counter(plain.values())
    return {
        name: made if shared[made] == 1 else f"{made}_{zlib.crc32(name.encode()):08X}" for name, made in plain.items()
    }
