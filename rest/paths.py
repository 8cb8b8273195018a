"""Decoding of URL paths. Pure.

Routes are matched on a path in which an escaped slash is still escaped, so that `devices/site%2Fmetrics` is the device
`site/metrics` and not the metrics of `site`.
"""

import re
from urllib.parse import unquote

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_KEPT = re.compile(r"(%2[5Ff])")  # a slash, and the percent sign, which would else be ambiguous


class InvalidPath(ValueError):
    """A path with a malformed escape, bytes that are not UTF-8, or the character NUL."""


def decode(text: str) -> str:
    """Decode a part of a raw path. Raises InvalidPath."""
    if "%" not in text:
        return text
    if len(_ESCAPE.findall(text)) != text.count("%"):
        raise InvalidPath("a percent sign in a path must begin an escape such as %2F; %25 is the percent sign itself")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidPath("the escapes in a path must be UTF-8") from None
    if "\0" in decoded:
        raise InvalidPath("the character NUL is not accepted in a path")
    return decoded


def routing_path(raw_path: str) -> str:
    """Decode a raw path except `%2F` and `%25`. Raises InvalidPath."""
    if "%" not in raw_path:
        return raw_path
    decode(raw_path)
    parts = _KEPT.split(raw_path)
    return "".join(part.upper() if number % 2 else decode(part) for number, part in enumerate(parts))


def decode_kept(text: str) -> str:
    """Decode a part of a routing path."""
    return text.replace("%2F", "/").replace("%25", "%") if "%" in text else text
