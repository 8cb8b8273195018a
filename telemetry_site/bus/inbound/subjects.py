"""The setting TELEMETRY_BUS_INBOUND."""

import re

_ACCEPTED = (
    "one subject such as services.> or services.*.deleted is accepted, whose first part is a word other than telemetry"
)


def parse_subjects(text: str) -> str:
    """Read a subject with wildcards. Raises ValueError.

    The first part is a word: with a wildcard there, the consumer would receive what the site itself sends.
    """
    parts = text.split(".")
    words = all(re.fullmatch(r"[A-Za-z0-9_-]+|\*", part) for part in parts[:-1])
    if (
        not words
        or not re.fullmatch(r"[A-Za-z0-9_-]+|\*|>", parts[-1])
        or parts[0] in ("*", ">", "telemetry", "_INBOX")
    ):
        raise ValueError(_ACCEPTED)
    return text
