"""Names in braces in the texts of a rule, such as `{device}`, filled in with what an alert is about.

Not str.format, whose fields reach into whatever they are given.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

NAMES: Final = (
    "device", "device_name", "group", "metric", "value", "threshold", "unit", "level", "rule", "time",
)  # fmt: skip
_FIELD = re.compile(r"\{([^{}]*)\}")


def render(text: str, fields: Mapping[str, Any]) -> str:
    """The text with its names filled in; a name without a value is left out, one that is none stands as it is."""

    def filled(found: re.Match[str]) -> str:
        name = found[1].strip()
        return _shown(fields.get(name)) if name in NAMES else found[0]

    return _FIELD.sub(filled, text)


def check_template(text: str) -> str | None:
    """What is wrong with it, and what is accepted; None where it can be filled in."""
    unknown = [name for name in (found.strip() for found in _FIELD.findall(text)) if name not in NAMES]
    rest = _FIELD.sub("", text)
    if not unknown and "{" not in rest and "}" not in rest:
        return None
    wrong = f"{{{unknown[0]}}} is unknown" if unknown else "a brace has no partner"
    return f"{wrong}: {', '.join(f'{{{name}}}' for name in NAMES)} are accepted"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
