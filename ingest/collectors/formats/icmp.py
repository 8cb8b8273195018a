"""ICMP echo packets of IPv4 and IPv6. Pure."""

import struct
from typing import NamedTuple

ECHO_REQUEST, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
PAYLOAD = b"telemetry-collector-ping"


class EchoReply(NamedTuple):
    """The fields of a reply that say which request it answers."""

    sequence: int
    payload: bytes


def build_request(version: int, sequence: int, token: bytes) -> bytes:
    """Return an echo request; the system sets its identifier and, for IPv6, its checksum."""
    payload = PAYLOAD + token
    checksum = _checksum(_HEADER.pack(ECHO_REQUEST[version], 0, 0, 0, sequence) + payload) if version == 4 else 0
    return _HEADER.pack(ECHO_REQUEST[version], 0, checksum, 0, sequence) + payload


def parse_reply(version: int, packet: bytes, token: bytes) -> EchoReply | None:
    """Return a reply to a request with this token; None for any other packet."""
    if len(packet) < _HEADER.size:
        return None
    kind, code, _, _, sequence = _HEADER.unpack_from(packet)
    payload = packet[_HEADER.size :]
    if kind != ECHO_REPLY[version] or code != 0 or payload != PAYLOAD + token:
        return None
    return EchoReply(sequence, payload)


def _checksum(data: bytes) -> int:
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return ~total & 0xFFFF
