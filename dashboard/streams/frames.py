"""The JSON frames that the site sends on live streams, the same on WebSockets and in server-sent events."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec

from metrics.streams.encoding import Value

MAX_VALUES = 2_000  # per frame
_encode = msgspec.json.Encoder().encode


class _Points(msgspec.Struct, tag_field="type", tag="points"):
    position: str | None
    values: Sequence[Value]


class _Snapshot(msgspec.Struct, tag_field="type", tag="snapshot"):
    position: str | None
    recovered: bool | None
    reason: str | None
    more: bool
    values: Sequence[Value]


class _Gap(msgspec.Struct, tag_field="type", tag="gap"):
    position: str | None
    recovered: bool
    more: bool
    values: Sequence[Value]


def points(values: Iterable[Value], position: str | None) -> Iterable[bytes]:
    """Return the frames of new values; only the last has the position, since the others do not reach it."""
    for part, is_last in _parts(values):
        yield _encode(_Points(position if is_last else None, part))


def snapshot(
    values: Iterable[Value], position: str, recovered: bool | None = None, reason: str | None = None
) -> Iterable[bytes]:
    """Return the frames of the newest value per series; `reason` says why a resume was not possible."""
    for part, is_last in _parts(values):
        yield _encode(_Snapshot(position if is_last else None, recovered, reason, not is_last, part))


def gap(values: Iterable[Value], position: str) -> Iterable[bytes]:
    """Return the frames of every value that was missed since the position that a client resumes from."""
    for part, is_last in _parts(values):
        yield _encode(_Gap(position if is_last else None, True, not is_last, part))


def _parts(values: Iterable[Value]) -> Iterable[tuple[Sequence[Value], bool]]:
    """Split values into frames; without values there is one empty frame. Yields (values, whether they are the last)."""
    remaining = iter(values)
    part = list(islice(remaining, MAX_VALUES))
    while following := list(islice(remaining, MAX_VALUES)):
        yield part, False
        part = following
    yield part, True


def with_subscription(subscription: str, frame: bytes) -> bytes:
    """Return a data frame with the client's name of the subscription as its first member."""
    return subscription_prefix(subscription) + frame[1:]


def subscription_prefix(subscription: str) -> bytes:
    """Return what replaces the opening brace of a data frame of this subscription."""
    return b'{"subscription":' + _encode(subscription) + b","


def event(channel: str, position: str, envelope: Any) -> bytes:
    """Return the frame of an event; `envelope` has its id, type, subject, time and data."""
    return _encode({"type": "event", "channel": channel, "position": position, "event": envelope})


def dashboard(figures: Any) -> bytes:
    """Return the frame of the figures of the overview."""
    return _encode({"type": "dashboard", "channel": "dashboard", "figures": figures})


def resync(reason: str, channel: str | None = None) -> bytes:
    """Return the frame after which a client reads its data again; `channel` None means every channel.

    Reasons are `overflow`, `too_old`, `epoch`, `future`, `rights` (the caller sees other devices now) and `changed`
    (something that the caller may see in part has changed).
    """
    return _encode({"type": "resync", "channel": channel, "reason": reason})


def subscribed(channels: Iterable[str], position: str | None) -> bytes:
    """Return the frame that lists the channels of the stream; every event after the position follows."""
    return _encode({"type": "subscribed", "channels": sorted(channels), "position": position})


def ping(time: datetime) -> bytes:
    """Return the heartbeat, by which a client notices a dead connection."""
    return _encode({"type": "ping", "time": time})


def error(code: int | None, detail: str, retry: bool, retry_after_ms: int | None = None) -> bytes:
    """Return an error frame; with a code it is the last frame of the stream."""
    return _encode({"type": "error", "code": code, "detail": detail, "retry": retry, "retry_after_ms": retry_after_ms})


def message_error(detail: str) -> bytes:
    """Return the answer to an invalid message; the stream stays open."""
    return error(None, detail, retry=False)
