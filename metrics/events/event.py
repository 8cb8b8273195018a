"""The base of all event definitions, and the registry that documentation and streams read."""

from typing import Any, ClassVar

import msgspec

_definitions: dict[str, type["EventData"]] = {}


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    """Data of one type of event. A definition is a subclass with `type`, `subject` and, if pages show it, `channel`."""

    type: ClassVar[str] = ""
    channel: ClassVar[str | None] = None  # of /ws/live; None: only the event bus carries it
    # Whether callers limited to some devices may see it, if it concerns no single device and no single user.
    everyone: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.type:
            return
        defined = _definitions.setdefault(cls.type, cls)
        # msgspec creates a class twice where it has slots to add.
        if (defined.__module__, defined.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"two definitions of the event {cls.type}")
        _definitions[cls.type] = cls

    @property
    def subject(self) -> str:
        """The kind of the changed object, a slash and its id, for example `alert/alt_1f3c`."""
        raise NotImplementedError

    @property
    def visible_device(self) -> str | None:
        """The device whose viewers may see the event; None if the event is not about one device."""
        return None

    @property
    def owner(self) -> int | None:
        """The primary key of the only user who may see the event; None if it is not private."""
        return None


def event_definitions() -> list[type[EventData]]:
    """Return the definitions of all types of events, by type."""
    return [_definitions[name] for name in sorted(_definitions)]


def channel_of(event_type: str) -> str | None:
    """Return the channel of /ws/live that carries events of a type; None for an unknown type."""
    definition = _definitions.get(event_type)
    return None if definition is None else definition.channel


def seen_by_everyone(event_type: str) -> bool:
    """Return whether callers limited to some devices may see events of a type that have no device and no owner."""
    definition = _definitions.get(event_type)
    return definition is not None and definition.everyone
