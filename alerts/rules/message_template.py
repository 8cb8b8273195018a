"""Placeholders in the texts of a rule, such as `{device}`, replaced by values of the alert.

Not str.format, whose placeholders can read any attribute of their values.
"""

import re
from collections.abc import Mapping
from typing import Any

PLACEHOLDERS = (
    "device", "device_name", "group", "metric", "value", "threshold", "unit", "level", "rule", "time",
)  # fmt: skip
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def render(text: str, values: Mapping[str, Any]) -> str:
    """Replace the placeholders: by an empty text if the value is None or missing. Unknown ones are left as they are."""

    def replace(match: re.Match[str]) -> str:
        name = match[1].strip()
        return _format_value(values.get(name)) if name in PLACEHOLDERS else match[0]

    return _PLACEHOLDER.sub(replace, text)


def check_template(text: str) -> str | None:
    """Return the error of a template with the accepted placeholders; None if it is valid."""
    unknown = [name for name in map(str.strip, _PLACEHOLDER.findall(text)) if name not in PLACEHOLDERS]
    rest = _PLACEHOLDER.sub("", text)
    if not unknown and "{" not in rest and "}" not in rest:
        return None
    error = f"{{{unknown[0]}}} is unknown" if unknown else "unbalanced brace"
    return f"{error}; accepted placeholders are {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}"


def _format_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
