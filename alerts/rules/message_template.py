"""Placeholders in the texts of a rule, such as `{device}`, replaced by values of the alert.

Not str.format, whose placeholders can read any attribute of their values.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from metrics.value_text import number_text

PLACEHOLDERS = (
    "device", "device_name", "group", "metric", "value", "threshold", "unit", "level", "rule", "time",
)  # fmt: skip
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(?:\{[^{}]*\}|[^\s<>\"'{}])+")


def render(text: str, values: Mapping[str, Any], is_url: bool = False) -> str:
    """Replace the placeholders: by an empty text if the value is None or missing. Unknown ones are left as they are.

    Within a URL, values are percent-encoded, and numbers are written for programs.
    """
    urls = [(0, len(text))] if is_url else [match.span() for match in _URL.finditer(text)]

    def replace(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name not in PLACEHOLDERS:
            return match[0]
        if any(start <= match.start() < end for start, end in urls):
            return quote(_write_value(values.get(name)), safe="")
        return _describe_value(name, values)

    return _PLACEHOLDER.sub(replace, text)


def check_template(text: str) -> str | None:
    """Return the error of a template with the accepted placeholders; None if it is valid."""
    unknown = [name for name in map(str.strip, _PLACEHOLDER.findall(text)) if name not in PLACEHOLDERS]
    rest = _PLACEHOLDER.sub("", text)
    if not unknown and "{" not in rest and "}" not in rest:
        return None
    error = f"{{{unknown[0]}}} is unknown" if unknown else "unbalanced brace"
    return f"{error}; accepted placeholders are {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}"


def _write_value(value: Any) -> str:
    """Return a value as JSON writes it, texts without quotes."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _describe_value(name: str, values: Mapping[str, Any]) -> str:
    """Return a value as messages write it: value and threshold are distinguishable."""
    value, beside = values.get(name), values.get({"value": "threshold", "threshold": "value"}.get(name, ""))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _write_value(value)
    return number_text(value, *(other for other in [beside] if isinstance(other, int | float)))
