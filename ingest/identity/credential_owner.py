"""The owner of a credential, as each kind of credential returns it."""

from dataclasses import dataclass

from rest.caller import Caller


@dataclass(frozen=True, slots=True)
class CredentialOwner:
    """The caller of a credential.

    until  seconds since 1970; then the credential has to be resolved again
    key    id of the API key that was used, directly or through a token
    """

    caller: Caller
    until: float = float("inf")
    key: int | None = None
