"""Validated messages of a client on /ws/live: every error names the field and the accepted values."""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.streams.channels import CHANNELS
from dashboard.streams.data_subscription import SeriesFilter
from dashboard.streams.session import RESUME_FROM, InvalidMessage
from metrics.streams.positions import Position
from rest.errors import InvalidField
from rest.names import NAME_LENGTH

MAX_ID_LENGTH = 100
MAX_NAMES = 500
MAX_TAGS = 20
MIN_FREQUENCY_MS, MAX_FREQUENCY_MS, DEFAULT_FREQUENCY_MS = 100, 10_000, 1_000
SERIES_FIELDS = ("device_ids", "groups", "metric_names", "tags", "max_frequency")
_CHANNEL_NAMES = ", ".join(CHANNELS)


@dataclass(frozen=True, slots=True)
class SubscribeChannels:
    channels: frozenset[str]
    resume_from: Position | None = None


@dataclass(frozen=True, slots=True)
class SubscribeData:
    subscription: str
    series: SeriesFilter
    resume_from: Position | None = None


@dataclass(frozen=True, slots=True)
class UnsubscribeChannels:
    channels: frozenset[str]


@dataclass(frozen=True, slots=True)
class UnsubscribeData:
    subscription: str


Message = SubscribeChannels | SubscribeData | UnsubscribeChannels | UnsubscribeData


def parse_message(message: Mapping[str, Any]) -> Message:
    """Return the verb of a message. Raises InvalidMessage."""
    kind = message.get("type")
    if kind not in ("subscribe", "unsubscribe"):
        raise InvalidMessage('type must be "subscribe", "unsubscribe" or "pong"')
    has_channels, has_subscription = "channels" in message, "subscription" in message
    if has_channels == has_subscription:
        raise InvalidMessage("either channels or subscription is required, not both")
    if kind == "unsubscribe":
        _check_fields(message, ("channels",) if has_channels else ("subscription",))
        if has_channels:
            return UnsubscribeChannels(parse_channels(message["channels"]))
        return UnsubscribeData(_parse_id(message["subscription"]))
    if has_channels:
        _check_fields(message, ("channels", RESUME_FROM))
        return SubscribeChannels(parse_channels(message["channels"]), parse_event_position(message.get(RESUME_FROM)))
    _check_fields(message, ("subscription", RESUME_FROM, *SERIES_FIELDS))
    subscription = _parse_id(message["subscription"])
    return SubscribeData(subscription, _parse_series(message), parse_position(message.get(RESUME_FROM)))


def _check_fields(message: Mapping[str, Any], accepted: Collection[str]) -> None:
    unknown = next((name for name in message if name != "type" and name not in accepted), None)
    if unknown is not None:
        names = ", ".join(("type", *accepted))
        raise InvalidMessage(f"{unknown[:MAX_ID_LENGTH]} is not a field of this message; accepted are {names}")


def parse_channels(names: Any) -> frozenset[str]:
    """Return channels. Raises InvalidMessage."""
    if not isinstance(names, list) or not names or len(names) > len(CHANNELS):
        raise InvalidMessage(f"channels must be a list of 1 to {len(CHANNELS)} of: {_CHANNEL_NAMES}")
    for name in names:
        if not isinstance(name, str) or name not in CHANNELS:
            raise InvalidMessage(f"channels must only have: {_CHANNEL_NAMES}")
    return frozenset(names)


def parse_position(text: Any) -> Position | None:
    """Return the position to resume from. Raises InvalidMessage."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidMessage(f'{RESUME_FROM} must be the "position" of an earlier frame, or null')
    try:
        return Position.parse(text)
    except InvalidField as error:
        raise InvalidMessage(str(error)) from None


def parse_event_position(text: Any) -> Position | None:
    """Return the position of an event to resume from. Raises InvalidMessage."""
    position = parse_position(text)
    if position is not None and len(position.offsets) != 1:
        raise InvalidMessage(f"{RESUME_FROM} must be the position of an event, such as 1f0c9a7b.1234")
    return position


def _parse_id(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_LENGTH:
        raise InvalidMessage(f"subscription must be a text of 1 to {MAX_ID_LENGTH} characters")
    return value


def _parse_series(message: Mapping[str, Any]) -> SeriesFilter:
    groups = _parse_names(message, "groups")
    return SeriesFilter(
        _parse_names(message, "device_ids"),
        None if groups is None else tuple(sorted(groups)),
        _parse_names(message, "metric_names"),
        _parse_tags(message),
        _parse_frequency(message),
    )


def _parse_names(message: Mapping[str, Any], field: str) -> frozenset[str] | None:
    """Return the names in a field; None or an empty list means all. Raises InvalidMessage."""
    names = message.get(field)
    if names is None or names == []:
        return None
    if not isinstance(names, list) or len(names) > MAX_NAMES:
        raise InvalidMessage(f"{field} must be a list of at most {MAX_NAMES} names, or null for all")
    for name in names:
        if not isinstance(name, str) or not 1 <= len(name) <= NAME_LENGTH or "\0" in name:
            raise InvalidMessage(f"{field} must have names of 1 to {NAME_LENGTH} characters without NUL")
    return frozenset(names)


def _parse_tags(message: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    tags = message.get("tags") or {}
    if not isinstance(tags, dict) or len(tags) > MAX_TAGS:
        raise InvalidMessage(f"tags must be an object of at most {MAX_TAGS} names and values, or null")
    for text in itertools.chain(tags, (value for value in tags.values() if isinstance(value, str))):
        if len(text) > NAME_LENGTH or "\0" in text:
            raise InvalidMessage(f"tags must have names and texts of at most {NAME_LENGTH} characters without NUL")
    if not all(isinstance(value, str | int | float | bool) for value in tags.values()):
        raise InvalidMessage("tags must have texts, numbers, true or false as values")
    return frozenset(tags.items())


def _parse_frequency(message: Mapping[str, Any]) -> int:
    frequency = message.get("max_frequency", DEFAULT_FREQUENCY_MS)
    if (
        isinstance(frequency, bool)
        or not isinstance(frequency, int)
        or not MIN_FREQUENCY_MS <= frequency <= MAX_FREQUENCY_MS
    ):
        raise InvalidMessage(
            f"max_frequency must be a whole number of {MIN_FREQUENCY_MS} to {MAX_FREQUENCY_MS} milliseconds"
        )
    return frequency
