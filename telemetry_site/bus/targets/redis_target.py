"""Redis Streams: one stream of events and one of data events, each with the newest entries only."""

from collections.abc import Sequence
from typing import cast

import redis

from telemetry_site.bus.cloud_event import CloudEvent
from telemetry_site.bus.targets.target import Delivery, Stream, TargetUnavailable

TIMEOUT = 5.0  # seconds
MAX_ENTRIES = 100_000  # of a stream, approximately; Redis deletes the oldest


class RedisTarget:
    """Appends to the streams `name` and `name:data`. A window is one transaction: all of it is stored, or nothing."""

    name = "redis"
    streams: Sequence[Stream] = (Stream.EVENTS, Stream.DATA)
    drops_duplicates_for = 0.0

    def __init__(self, url: str, stream: str) -> None:
        self._url, self._stream = url, stream
        self._client: redis.Redis | None = None

    def open(self) -> None:
        timeouts = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
        self._client = redis.Redis.from_url(self._url, **timeouts)
        try:
            self._client.ping()
        except redis.RedisError as error:
            raise TargetUnavailable(f"Redis: {error}") from error

    def newest_id(self, stream: Stream) -> str | None:
        assert self._client is not None
        try:
            entries = self._client.xrevrange(self.stream_name(stream), count=1)
        except redis.RedisError as error:
            raise TargetUnavailable(f"Redis: {error}") from error
        for _, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", entries):
            return fields.get(b"id", b"").decode("utf-8", "replace")
        return None

    def send(self, stream: Stream, events: Sequence[CloudEvent]) -> Delivery:
        assert self._client is not None
        try:
            with self._client.pipeline(transaction=True) as pipeline:
                for event in events:
                    fields = {**event.attributes(), "data": event.data}
                    pipeline.xadd(self.stream_name(stream), fields, maxlen=MAX_ENTRIES, approximate=True)  # type: ignore[arg-type]  # invariant dict
                pipeline.execute()
        except redis.RedisError as error:
            raise TargetUnavailable(f"Redis: {error}") from error
        return Delivery(len(events))

    def sync_interval(self) -> str:
        return ""

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    def stream_name(self, stream: Stream) -> str:
        """Return the key of a stream."""
        return self._stream if stream is Stream.EVENTS else f"{self._stream}:data"
