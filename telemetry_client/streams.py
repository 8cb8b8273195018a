"""The live stream of a site over a WebSocket: events and values, resumed after an interruption."""

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from telemetry_client.errors import ClientError, NotTheSite, Unreachable, refusal
from telemetry_client.site import Site, reason

SILENCE = 60.0  # seconds without a frame; the site sends one every 25 seconds
OPEN_TIMEOUT = 10.0
FIRST_PAUSE, MAX_PAUSE = 0.5, 30.0
MAX_FRAME = 64 << 20  # bytes
VALUES = "values"  # name of the data subscription
AUTHENTICATION_CODES = {4001: 401, 4003: 403}

Frame = dict[str, Any]


class LiveStream:
    """Frames of `/ws/live`: events of channels, and values of series if `series` is given.

    The first connection raises ClientError if it fails; later ones are tried again until the site refuses them.
    """

    def __init__(self, site: Site, channels: Sequence[str] = (), series: Mapping[str, Any] | None = None) -> None:
        self._site = site
        self._channels = list(channels)
        self._series = series
        self._socket: ClientConnection | None = None
        self._resources = ExitStack()  # closes the connection
        self._closed = threading.Event()
        self._positions: dict[str, str] = {}
        self._newest: dict[tuple[str, str], tuple[str, Any]] = {}
        self._pause = FIRST_PAUSE
        self._refused = False  # an error frame said when to connect again
        self._connect_at = 0.0
        self._last_frame_at = 0.0
        self.was_open = False
        self.interruptions = 0

    def __enter__(self) -> "LiveStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.next_frame()) is not None:
            yield frame

    def close(self) -> None:
        """End the stream; another thread that waits for a frame gets None."""
        self._closed.set()
        self._disconnect()

    def next_frame(self, timeout: float | None = None) -> Frame | None:
        """Return the next frame; None after `timeout` seconds or when the stream is closed. Raises ClientError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._closed.is_set():
            left = SILENCE if deadline is None else deadline - time.monotonic()
            if self._socket is None and not self._connect(left):
                if deadline is not None and time.monotonic() >= deadline:
                    return None
                continue
            text = self._receive(max(0.0, min(left, SILENCE)))
            if text is not None and (frame := self._accept(text)) is not None:
                return frame
            if deadline is not None and time.monotonic() >= deadline:
                return None
        return None

    def _connect(self, patience: float) -> bool:
        """Connect when it is time; wait at most `patience` seconds for that. Raises ClientError."""
        wait = self._connect_at - time.monotonic()
        if wait > 0 and (self._closed.wait(max(0.0, min(wait, patience))) or wait > patience):
            return False
        try:
            self._socket = self._resources.enter_context(
                connect(
                    f"{self._site.websocket_url}/ws/live",
                    additional_headers=self._site.headers,
                    open_timeout=min(self._site.timeout, OPEN_TIMEOUT),
                    max_size=MAX_FRAME,
                    close_timeout=1,
                )
            )
            with suppress(ConnectionClosed):  # an error frame that says why can still be received
                for message in self._subscriptions():
                    self._socket.send(json.dumps(message))
        except (WebSocketException, OSError) as error:
            failure = _connect_error(self._site.url, error)
            if not self.was_open or not isinstance(failure, Unreachable):
                raise failure from None
            self._disconnect()
            return False
        self._last_frame_at = time.monotonic()
        return True

    def _subscriptions(self) -> Iterator[dict[str, Any]]:
        if self._channels:
            yield self._subscription({"channels": self._channels}, "")
        if self._series is not None:
            yield self._subscription({"subscription": VALUES, **self._series}, VALUES)

    def _subscription(self, fields: dict[str, Any], name: str) -> dict[str, Any]:
        position = self._positions.get(name)
        return {"type": "subscribe", **fields, **({"resume_from": position} if position else {})}

    def _receive(self, timeout: float) -> str | bytes | None:
        """Return the text of a frame, None if there is none in time or the connection ended."""
        socket = self._socket
        if socket is None:
            return None
        try:
            text = socket.recv(timeout=timeout)
        except TimeoutError:
            if time.monotonic() - self._last_frame_at >= SILENCE:
                self._disconnect()
            return None
        except (ConnectionClosed, OSError):
            self._disconnect()
            if not self.was_open and not self._closed.is_set() and not self._refused:
                raise Unreachable(f"{self._site.url} closes live streams at once") from None
            return None
        self._last_frame_at = time.monotonic()
        return text

    def _accept(self, text: str | bytes) -> Frame | None:
        """Return the frame of a text, without values that were returned before. Raises ClientError."""
        try:
            frame = json.loads(text)
        except ValueError:
            raise NotTheSite(f"{self._site.url} sends frames that are not JSON") from None
        kind = frame.get("type")
        if kind == "error":
            self._error(frame)
            return None
        self.was_open, self._pause = True, FIRST_PAUSE
        if frame.get("position"):
            self._positions[frame.get("subscription", "")] = frame["position"]
        if kind == "ping":
            return None
        if VALUES in frame:
            frame[VALUES] = [value for value in frame[VALUES] if self._is_new(value)]
        return dict(frame)

    def _is_new(self, value: Mapping[str, Any]) -> bool:
        key = value["device_id"], value["metric_name"]
        timestamp, last = self._newest.get(key, ("", None))
        if value["timestamp"] < timestamp:
            return bool(value.get("late"))
        self._newest[key] = value["timestamp"], value["value"]
        return bool(value["timestamp"] > timestamp or value["value"] != last)

    def _error(self, frame: Mapping[str, Any]) -> None:
        """Raise what a connection cannot recover from; otherwise the connection is tried again."""
        code = frame.get("code")
        if code is None or not frame.get("retry", True):
            self.close()
            raise refusal(AUTHENTICATION_CODES.get(code or 0, code or 400), frame)
        self._refused = True
        self._disconnect()
        if frame.get("retry_after_ms"):
            self._connect_at = time.monotonic() + frame["retry_after_ms"] / 1000

    def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            self.interruptions += not self._closed.is_set()
            self._resources.close()
        self._connect_at = time.monotonic() + self._pause * random.uniform(0.5, 1)  # noqa: S311
        self._pause = min(2 * self._pause, MAX_PAUSE)


def _connect_error(url: str, error: Exception) -> ClientError:
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if status in (401, 403):
            return refusal(status, {"detail": "live streams need an API key that may read"})
        if status in (429, 502, 503, 504):
            return Unreachable(f"{url} refuses live streams at the moment ({status})")
        return NotTheSite(f"{url}/ws/live is not a live stream: it answers {status}")
    if isinstance(error, InvalidHandshake | InvalidMessage):
        return NotTheSite(f"{url}/ws/live is not a live stream: {' '.join(str(error).split())}")
    return Unreachable(f"{url} cannot be reached: {reason(error)}")
