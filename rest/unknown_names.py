"""Unknown parameters and fields are rejected: a misspelled filter must not widen an answer. Pure."""

from collections.abc import Collection, Iterable

from rest.errors import InvalidFields


def reject_unknown_parameters(sent: Iterable[str], accepted: Collection[str]) -> None:
    """Raise InvalidFields (422) for query parameters that an operation does not have."""
    _reject(sent, accepted, "parameter")


def reject_unknown_fields(sent: Iterable[str], accepted: Collection[str], prefix: str = "") -> None:
    """Raise InvalidFields (422) for fields that a body does not have; `prefix` is the path of a nested object."""
    _reject(sent, accepted, "field", prefix)


def _reject(sent: Iterable[str], accepted: Collection[str], noun: str, prefix: str = "") -> None:
    if unknown := sorted(set(map(str, sent)).difference(accepted)):
        names = f"accepted are {', '.join(accepted)}" if accepted else f"no {noun}s are accepted"
        raise InvalidFields([(prefix + name[:200], f"is not a known {noun}; {names}") for name in unknown])
