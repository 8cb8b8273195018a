"""Why the site closes a stream: an error frame with a code, and whether and when to connect again."""

from dataclasses import dataclass

from dashboard.streams import frames

MAX_CLOSE_TEXT = 123  # bytes of the text in a WebSocket close frame


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Reason for closing a stream.

    detail          what happened and what to do, for people
    retry           whether the client should connect again with the same request
    retry_after_ms  how long it should wait first; None: the client decides
    """

    code: int
    detail: str
    retry: bool = False
    retry_after_ms: int | None = None

    @property
    def frame(self) -> bytes:
        """The error frame that precedes the close."""
        return frames.error(self.code, self.detail, self.retry, self.retry_after_ms)

    @property
    def close_text(self) -> str:
        return self.detail.encode()[:MAX_CLOSE_TEXT].decode(errors="ignore")


RESTARTING = CloseReason(1012, "the server is restarting; connect again", True, 1_000)
FAILED = CloseReason(1011, "the stream failed; connect again", True, 5_000)
TOO_SLOW = CloseReason(4008, "the client reads too slowly; connect again and resume", True, 5_000)
FLOOD = CloseReason(4029, "more than 50 messages in 10 seconds were received; connect again later", True, 30_000)
NOT_SIGNED_IN = CloseReason(4001, "not signed in: a ticket, an API key, a token or a session is required")
INVALID_TICKET = CloseReason(4001, "the ticket is unknown, expired or already used; request a new one")
INVALID_CREDENTIAL = CloseReason(4001, "the API key or the token is not valid")
CREDENTIAL_EXPIRED = CloseReason(4001, "the API key or the token has expired; connect with a new one")
MAY_NOT_READ = CloseReason(4003, "this API key or token may not read points: scope read, operate or admin is required")
ACCESS_ENDED = CloseReason(4003, "access has ended: the user, the session, the API key or the token is no longer valid")
FOREIGN_ORIGIN = CloseReason(4003, "pages of another origin must use a ticket, not the session of the browser")
UNKNOWN_STREAM = CloseReason(4004, "there is no stream at this address")
UNKNOWN_SUBSCRIPTION = CloseReason(4004, "the subscription is unknown, expired or cancelled; subscribe again")
TOO_MANY_STREAMS = CloseReason(4009, "this caller already has 50 open streams; close one first")
TOO_MANY_SUBSCRIPTIONS = CloseReason(
    4009, "a stream accepts at most 200 data subscriptions; unsubscribe from one first"
)
OVERSIZED_MESSAGE = CloseReason(4013, "messages of at most 64 KiB are accepted")
INVALID_MESSAGE = CloseReason(4013, "messages must be JSON objects in text frames")
INVALID_FRAME = CloseReason(4013, "the frame is not valid in the WebSocket protocol")
TOO_MANY_INVALID_MESSAGES = CloseReason(4013, "10 messages were not valid; correct the client")


def invalid_parameter(detail: str) -> CloseReason:
    """Return the reason for a parameter of the URL that is not valid."""
    return CloseReason(4013, detail)


def unavailable(detail: str) -> CloseReason:
    """Return the reason when something that the stream needs cannot be reached now."""
    return CloseReason(1011, detail, True, 5_000)
