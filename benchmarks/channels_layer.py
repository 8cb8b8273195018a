"""The pub/sub channel layer of channels-redis as a transport of live values, to compare with the streams of the site.

Run as `python -m benchmarks.channels_layer REDIS_URL`; prints JSON. One process has channels in a group, as a consumer
per WebSocket would, and receives messages of the size of a frame with all series of the benchmark.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
from channels_redis.pubsub import RedisPubSubChannelLayer

from benchmarks.live_clients import SERIES, series_name

CHANNELS, MESSAGES, SECONDS = 500, 10, 60
DEADLINE = 60.0  # seconds


class CountingLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """The layer, which counts the messages that it decodes."""

    decoded = 0

    def deserialize(self, message: bytes) -> Any:
        self.decoded += 1
        return super().deserialize(message)


def frame(number: int) -> str:
    """Return a frame with a value of each series."""
    values = [
        {"device_id": device, "metric_name": metric, "timestamp": "2026-01-01T00:00:00.000000Z", "value": number}
        for device, metric in map(series_name, range(SERIES))
    ]
    return json.dumps({"type": "points", "position": f"0.{number}", "values": values})


async def decodes_per_message(url: str) -> float:
    """Return how often the process decodes a message that CHANNELS channels receive."""
    layer = CountingLayer(hosts=[url])
    names = [await layer.new_channel() for _ in range(CHANNELS)]
    for name in names:
        await layer.group_add("viewers", name)

    async def receive_all(name: str) -> None:
        for _ in range(MESSAGES):
            await layer.receive(name)

    receivers = [asyncio.create_task(receive_all(name)) for name in names]
    for number in range(MESSAGES):
        await layer.group_send("viewers", {"type": "frame", "text": frame(number)})
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*receivers)
    await layer.flush()
    return layer.decoded / MESSAGES


async def growth_of_a_silent_channel(url: str) -> int:
    """Return the growth of the process in bytes in a minute of a frame a second and a channel that never receives."""
    layer = CountingLayer(hosts=[url])
    silent, reading = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("viewers", silent)
    await layer.group_add("viewers", reading)
    before = psutil.Process().memory_info().rss
    for number in range(SECONDS):  # without pauses: the size of the queue depends on the messages alone
        await layer.group_send("viewers", {"type": "frame", "text": frame(number)})
        async with asyncio.timeout(DEADLINE):
            await layer.receive(reading)
    grown = psutil.Process().memory_info().rss - before
    await layer.flush()
    return grown


def main() -> None:
    measure: dict[str, Callable[[str], Awaitable[float]]] = {
        "growth": growth_of_a_silent_channel,
        "decodes": decodes_per_message,
    }

    async def run() -> dict[str, float]:
        return {name: await function(sys.argv[1]) for name, function in measure.items()}

    print(json.dumps(asyncio.run(run())))


if __name__ == "__main__":
    main()
