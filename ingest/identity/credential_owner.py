"""Whom a credential belongs to, as each kind of credential answers."""

from dataclasses import dataclass

from rest.caller import Caller


@dataclass(frozen=True, slots=True)
class Holder:
    """A caller, and until when (seconds since 1970) that is believed without looking again.

    `key` is the row of the API key that this came of, directly or by way of a token.
    """

    caller: Caller
    until: float = float("inf")
    key: int | None = None
