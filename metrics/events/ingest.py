"""Events of devices that ingestion creates at their first point."""

from metrics.events.definitions import DeviceCreated
from metrics.events.outbox import write_events
from metrics.storage.connection import Connection


def record_created_devices(connection: Connection, device_ids: list[str]) -> None:
    """Record new devices in the transaction that creates them."""
    write_events(connection, [DeviceCreated(device_id=device_id) for device_id in sorted(device_ids)])
