"""Events of devices and metric definitions."""

from metrics.events.event import EventData


class DeviceEvent(EventData, frozen=True, kw_only=True):
    """An event about one device."""

    channel = "devices"
    device_id: str

    @property
    def subject(self) -> str:
        return f"device/{self.device_id}"

    @property
    def visible_device(self) -> str | None:
        return self.device_id


class DeviceCreated(DeviceEvent, frozen=True, kw_only=True):
    """A device was created, by a person or by its first point."""

    type = "device.created"


class DeviceDeleted(DeviceEvent, frozen=True, kw_only=True):
    """A device was deleted; its points are deleted soon after."""

    type = "device.deleted"
