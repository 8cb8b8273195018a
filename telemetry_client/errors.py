"""Errors of the client. Each has a text of one line and the exit code of the command line."""

from collections.abc import Mapping
from typing import Any

REFUSED, USAGE, NOT_REACHABLE = 1, 2, 3


class ClientError(Exception):
    """Anything that the client reports to its user."""

    exit_code = REFUSED


class InvalidInput(ClientError):
    """A file, setting or profile of the user is not valid."""

    exit_code = USAGE


class NoProfile(InvalidInput):
    """No site is configured."""


class Unreachable(ClientError):
    """The site does not answer."""

    exit_code = NOT_REACHABLE


class NotTheSite(Unreachable):
    """Another server answers at this URL."""


class NothingFound(ClientError):
    """The site has nothing that matches."""


class BufferFull(ClientError):
    """The buffer of the processor has no room for another event."""


class Refused(ClientError):
    """The site rejected a request."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.errors: list[Mapping[str, Any]] = [e for e in problem.get("errors") or [] if isinstance(e, Mapping)]
        super().__init__(_describe(status, problem, self.errors))


class WrongKey(Refused):
    """The site does not accept the API key."""


def _describe(status: int, problem: Mapping[str, Any], errors: list[Mapping[str, Any]]) -> str:
    detail = str(problem.get("detail") or problem.get("title") or "no reason is given")
    fields = [f"{error['field']}: {error.get('detail', '')}" for error in errors if error.get("field")]
    missing = [text for text in fields if text not in detail]
    text = "; ".join([detail, *missing[:10]]) if len(fields) > 1 or not detail else detail
    if fields and len(fields) == 1 and str(errors[0].get("field")) not in detail:
        text = fields[0]
    return f"the site rejected the request ({status}): {' '.join(text.split())}"


def refusal(status: int, problem: Mapping[str, Any]) -> Refused:
    """Return the error of a response with this status."""
    return (WrongKey if status == 401 else Refused)(status, problem)
