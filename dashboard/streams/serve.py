"""The life of a stream on any connection: authenticate, count, open, wait for its end, and close with a reason."""

import logging
from collections.abc import Awaitable, Callable

from django.db import OperationalError

from dashboard.streams import close_codes
from dashboard.streams.authentication import Parameters, Refused, Scope, authenticate
from dashboard.streams.close_codes import FAILED, UNKNOWN_STREAM, CloseReason
from dashboard.streams.open_sessions import open_sessions
from dashboard.streams.session import InvalidMessage, StreamSession
from dashboard.streams.socket_writer import Closed, StreamTransport
from metrics.error_responses import DATABASE_UNAVAILABLE, EXPECTED_ERRORS

log = logging.getLogger(__name__)

SessionClass = type[StreamSession] | None


async def serve_session(
    scope: Scope,
    transport: StreamTransport,
    session_class: SessionClass,
    path: str,
    parameters: Parameters,
    ticket: str | None,
    wait_for_end: Callable[[StreamSession], Awaitable[None]],
) -> None:
    """Serve a stream; `wait_for_end` returns when the client has disconnected or the session has ended.

    Without a session class there is no stream at the path.
    """
    session: StreamSession | None = None
    reason: CloseReason | None = None
    try:
        if session_class is None:
            raise Refused(UNKNOWN_STREAM)
        access, caller = await authenticate(scope, ticket)
        session = session_class(transport, access, caller, parameters, path)
        open_sessions().add(session)
        await session.open()
        await wait_for_end(session)
    except (Closed, OSError):  # the client is gone, or the reason is being sent
        pass
    except Refused as refused:
        reason = refused.reason
    except InvalidMessage as error:  # in the parameters of the URL
        reason = close_codes.invalid_parameter(str(error))
    except EXPECTED_ERRORS as error:
        reason = close_codes.unavailable(str(error))
    except OperationalError:
        reason = close_codes.unavailable(DATABASE_UNAVAILABLE)
    except Exception:
        log.exception("a live stream failed")
        reason = FAILED
    finally:
        if session is not None:
            open_sessions().discard(session)
            session.end(reason)
            await session.closed()
            await session.wait_until_ended()
    if session is None and reason is not None:
        await _close(transport, reason)


async def _close(transport: StreamTransport, reason: CloseReason) -> None:
    try:
        await transport.close(reason)
    except OSError:
        return  # the client is gone
