"""ICMP echo over unprivileged datagram sockets: round-trip times and loss."""

import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from ingest.collection.kinds.kind import Collected, CollectionJob, FieldErrors, Kind, check_address, host_field
from ingest.collectors.formats.icmp import build_request, parse_reply
from ingest.collectors.reading import CollectFailed, Reading
from rest.fields import StrictSerializer
from rest.outgoing import ssrf_guard

MAX_PACKETS = 20
PACKET_INTERVAL = 0.1  # seconds
NOT_PERMITTED = (
    "this system does not permit unprivileged ICMP sockets: set net.ipv4.ping_group_range to include the group of the"
    " worker, such as sysctl -w net.ipv4.ping_group_range='0 2147483647'"
)


class PingConfiguration(StrictSerializer):
    host = host_field()
    packets = serializers.IntegerField(
        min_value=1, max_value=MAX_PACKETS, default=3, label="Packets", help_text="Echo requests of a collection."
    )
    timeout_ms = serializers.IntegerField(
        min_value=10,
        max_value=10_000,
        default=1000,
        label="Timeout (ms)",
        help_text="Milliseconds after the last request in which replies count.",
    )


class PingKind(Kind):
    name, label, description = "ping", "Ping", "Round-trip times and loss of ICMP echo requests."
    configuration_class = PingConfiguration

    def target(self, configuration: Mapping[str, Any]) -> str:
        return str(configuration["host"])

    def check(self, configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
        return check_address("host", configuration["host"], 0)

    def collect(self, job: CollectionJob) -> Collected:
        host, count = job.configuration["host"], job.configuration["packets"]
        address = job.resolve(host, 0)[0]
        times = _measure(job, address, count, job.configuration["timeout_ms"] / 1000)
        yield Reading("ping.up", 1.0 if times else 0.0)
        yield Reading("ping.loss_percent", round(100 * (count - len(times)) / count, 3), "%")
        if not times:
            raise CollectFailed(f"no reply from {host} ({address}) to {count} echo requests")
        yield Reading("ping.rtt_ms", round(sum(times) / len(times), 3), "ms")
        yield Reading("ping.rtt_max_ms", round(max(times), 3), "ms")


def _measure(job: CollectionJob, address: ssrf_guard.Address, count: int, timeout: float) -> list[float]:
    """Return the round-trip time in milliseconds of each reply. Raises CollectFailed."""
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if address.version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        raise CollectFailed(NOT_PERMITTED) from None
    except OSError as error:
        raise CollectFailed(f"no ICMP socket: {error.strerror or error}") from None
    token = secrets.token_bytes(8)
    sent: dict[int, float] = {}
    times: dict[int, float] = {}
    with sock:
        try:
            sock.connect((str(address), 0))
            for sequence in range(1, count + 1):
                sent[sequence] = time.monotonic()
                sock.send(build_request(address.version, sequence, token))
                last = sequence == count
                until = time.monotonic() + min(timeout if last else PACKET_INTERVAL, job.deadline.remaining)
                _receive(sock, address.version, token, sent, times, until, count)
        except OSError as error:  # such as an unreachable network; after the first reply it counts as loss
            if not times:
                raise CollectFailed(f"{address}: {error.strerror or error}") from None
    return list(times.values())


def _receive(
    sock: socket.socket,
    version: int,
    token: bytes,
    sent: Mapping[int, float],
    times: dict[int, float],
    until: float,
    count: int,
) -> None:
    """Add the time of each reply until a moment, or until all requests were answered."""
    while len(times) < count and (left := until - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            packet = sock.recv(2048)
        except TimeoutError:
            return
        reply = parse_reply(version, packet, token)
        if reply is not None and reply.sequence in sent and reply.sequence not in times:
            times[reply.sequence] = (time.monotonic() - sent[reply.sequence]) * 1000
        if len(times) == len(sent) < count:
            time.sleep(max(0.0, until - time.monotonic()))
