"""Detection of names that occur twice in one JSON object. Pure.

A decoder keeps the last of them silently, and which one counts differs between programs. Counting is cheap: a decoded
document has a certain number of texts, and a name that the decoder has dropped left two quotation marks behind.
"""

import json
import re
from typing import Any

_ESCAPES = re.compile(rb"\\.", re.DOTALL)


class DuplicateName(ValueError):
    """A name occurs twice in one JSON object."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the name {name!r:.80} occurs twice in one object: names must be unique")


def count_texts(body: bytes) -> int:
    """Return the number of texts, names included, in valid JSON."""
    return (_ESCAPES.sub(b"", body) if b"\\" in body else body).count(b'"') // 2


def texts_in(value: Any) -> int:
    """Return the number of texts, names included, in a decoded value."""
    if isinstance(value, str):
        return 1
    if not isinstance(value, dict | list):
        return 0
    texts, inner_values = (len(value), value.values()) if isinstance(value, dict) else (0, value)
    for inner in inner_values:
        kind = type(inner)
        if kind is str:
            texts += 1
        elif kind is dict or kind is list:
            texts += texts_in(inner)
    return texts


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object: the hook of json.loads. Raises DuplicateName."""
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        raise DuplicateName(next(name for name in names if names.count(name) > 1))
    return document


def check_unique_names(body: bytes, decoded: Any) -> None:
    """Raise DuplicateName if `decoded` has fewer texts than the body it was decoded from."""
    if count_texts(body) != texts_in(decoded):
        json.loads(body, object_pairs_hook=unique_names)
