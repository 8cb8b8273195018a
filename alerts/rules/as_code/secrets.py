"""Secrets in a file: placeholders for environment variables, such as `${SLACK_URL}`."""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping

_PLACEHOLDER = re.compile(r"\$(?:\$|\{([^}]*)\})")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class MissingSecret(ValueError):
    """A placeholder without a value. The message names the variable, never a value."""


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """Replace the placeholders by environment variables, and `$$` by a dollar sign. Raises MissingSecret."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        if not _VARIABLE.match(name):
            raise MissingSecret(
                f"{match[0]:.60} is no valid placeholder; ${{NAME}} is accepted, and $$ for a dollar sign"
            )
        if not environment.get(name):
            raise MissingSecret(f"environment variable {name} is not set")
        return environment[name]

    return _PLACEHOLDER.sub(replace, text)


def escape(secret: str) -> str:
    """Return the text that `substitute` turns into the secret."""
    return secret.replace("$", "$$")


def variable_prefixes(names: Iterable[str]) -> dict[str, str]:
    """Return a distinct prefix of environment variables for each channel name.

    Names that would have the same prefix get a checksum appended.
    """
    prefixes = {name: re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_") or "CHANNEL" for name in names}
    prefixes = {name: f"CHANNEL_{prefix}" if prefix[0].isdigit() else prefix for name, prefix in prefixes.items()}
    counts = Counter(prefixes.values())
    return {
        name: prefix if counts[prefix] == 1 else f"{prefix}_{zlib.crc32(name.encode()):08X}"
        for name, prefix in prefixes.items()
    }
