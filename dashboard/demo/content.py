"""Content of the demo data set. Every name or ID begins with PREFIX or TITLE, except those of metrics."""

from datetime import datetime, timedelta
from typing import Any

from telemetry_client.simulator.fleet import Device, Fleet
from telemetry_client.simulator.schedule import Rates

PREFIX, TITLE = "demo-", "Demo: "
DEVICE_COUNT = 30
HISTORY = timedelta(days=7)
INTERVAL = 60  # seconds
GROUP_DESCRIPTION = "Group of the demo data set; “manage.py demo --remove” deletes it."
# Keys in the metadata of devices; MARK also in that of metric definitions. The last two are those of the first device.
MARK = "demo"
UNTIL = "demo_until"  # end of the history, ms since 1970
COMPLETE = "demo_complete"  # whether everything was created
SENT_UNTIL = "demo_sent_until"  # until when the devices have sent, ms since 1970

FLEET = Fleet(20, DEVICE_COUNT, INTERVAL, PREFIX, Rates(faults=0.6, outages=0.1, offline=0.25, clock_errors=0.1))


def place_group(device: Device) -> str:
    return f"{TITLE}{device.place.name}"


def type_group(device: Device) -> str:
    return f"{TITLE}{device.type.title.lower()}s"


def group_names() -> list[str]:
    return sorted({name(device) for device in FLEET.devices for name in (place_group, type_group)})


def _rule(rule_id: str, name: str, metric: str, group: str, level: str, **fields: Any) -> dict[str, Any]:
    return {
        "rule_id": f"{PREFIX}{rule_id}",
        "name": f"{TITLE}{name}",
        "metric_name": metric,
        "device_groups": [f"{TITLE}{group}"],
        "level": level,
        **fields,
    }


def rules() -> list[dict[str, Any]]:
    """Return the rules, as `manage.py apply` takes them: one of each kind, and some more thresholds."""
    return [
        _rule(
            "cold-store-warm", "Cold store too warm", "room_temperature", "cold stores", "critical", condition=">",
            threshold_value=-13, clear_threshold=-15, aggregation="avg", evaluation_window=900, cooldown_minutes=30,
            description="{device_name} is at {value} {unit}. Check the door and the compressor, then move the goods.",
        ),
        _rule(
            "vibration", "Vibration too high", "vibration", "pumps", "error", condition=">", threshold_value=4.5,
            clear_threshold=3.5, trigger_count=3, evaluation_window=600, cooldown_minutes=60,
        ),
        _rule(
            "motor-hot", "Motor too hot", "motor_temperature", "pumps", "warning", condition=">", threshold_value=72,
            clear_threshold=66, aggregation="avg", evaluation_window=600,
        ),
        _rule(
            "health", "Health check fails", "service_healthy", "servers", "error", condition="==",
            threshold_value=False, trigger_count=5, evaluation_window=600,
        ),
        _rule(
            "signal-weak", "Signal too weak", "signal_strength", "gateways", "info", condition="<",
            threshold_value=-105, clear_threshold=-100, aggregation="avg", evaluation_window=1800,
        ),
        _rule(
            "disk-full", "Disk full within a day", "disk_usage", "servers", "warning", kind="forecast",
            condition=">=", threshold_value=95, evaluation_window=6 * 3600, parameters={"horizon": 86_400},
        ),
        _rule(
            "pressure-falls", "Air pressure falls fast", "air_pressure", "weather stations", "info", kind="trend",
            condition="<", threshold_value=-0.0012, evaluation_window=3 * 3600, parameters={"measure": "slope"},
        ),
        _rule(
            "response-time", "Unusual response time", "response_time", "servers", "warning", kind="anomaly",
        ),
        _rule(
            "door-and-warm", "Door open and warm", "room_temperature", "cold stores", "warning", kind="composite",
            trigger_count=2, evaluation_window=600,
            parameters={"operator": "and", "conditions": [
                {"metric_name": "room_temperature", "condition": ">", "threshold_value": -13},
                {"metric_name": "door_open", "condition": "==", "threshold_value": True},
            ]},
        ),
        _rule(
            "silent", "No data", "*", "gateways", "error", kind="absence",
            parameters={"expected_interval": INTERVAL, "grace": 1800},
        ),
    ]  # fmt: skip


def silences(end: datetime, silenced_device: str) -> list[dict[str, Any]]:
    """Return the silences of a data set that ends at this time: an active one, a planned one and a recurring one."""
    start = end.replace(minute=0, second=0, microsecond=0)

    def silence(silence_id: str, reason: str, first: datetime, last: datetime, **fields: Any) -> dict[str, Any]:
        times = {"starts_at": first.isoformat(), "ends_at": last.isoformat()}
        return {"silence_id": f"{PREFIX}{silence_id}", "reason": f"{TITLE}{reason}", **times, **fields}

    return [
        silence(
            "sensor", "the vibration sensor is replaced", start, start + timedelta(days=7),
            device_ids=[silenced_device], metric_names=["vibration"],
        ),
        silence(
            "rebuild", "the alpine site is rebuilt", start + timedelta(days=2), start + timedelta(days=3),
            kind="maintenance", device_groups=[f"{TITLE}alpine site"],
        ),
        silence(
            "backups", "backups every night", start, start + timedelta(days=90),
            rule_ids=[f"{PREFIX}response-time"],
            weekly={"days": [0, 1, 2, 3, 4, 5, 6], "from": "01:00", "to": "03:00", "timezone": "Europe/Berlin"},
        ),
    ]  # fmt: skip
