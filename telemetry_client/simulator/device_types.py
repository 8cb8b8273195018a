"""The types of devices and their metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

HOUR = 3_600_000  # ms


class ValueKind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    BOOLEAN = "boolean"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a type of device.

    gauge    base × (1 ± spread) + drivers (telemetry_client.simulator.drivers) by weight + slow noise with
             autocorrelation + white noise, within [low, high]
    counter  grows by `base` per second on average, faster at busy hours unless `steady`, from 0 at each restart
    boolean  whether the driver in `weights` is over 0.5
    text     one of `texts`, chosen for each half hour; the first ones are the most frequent
    every    measured at every n-th interval
    """

    name: str
    unit: str = ""
    kind: ValueKind = ValueKind.GAUGE
    base: float = 0.0
    spread: float = 0.1
    weights: Mapping[str, float] = field(default_factory=dict)
    slow: float = 0.0
    slow_period: int = HOUR
    white: float = 0.0
    low: float | None = None
    high: float | None = None
    decimals: int = 2
    steady: bool = False
    texts: tuple[str, ...] = ()
    every: int = 1
    description: str = ""


@dataclass(frozen=True, slots=True)
class DeviceType:
    """A type of device. `weekly` is the load at weekends as a part of that of working days."""

    name: str
    title: str
    models: tuple[tuple[str, str], ...]  # manufacturer, model
    metrics: tuple[Metric, ...]
    weekly: float = 0.6


def _gauge(name: str, unit: str, base: float, description: str, **more: object) -> Metric:
    return Metric(name, unit, base=base, description=description, **more)  # type: ignore[arg-type]


def _counter(name: str, unit: str, rate: float, description: str, decimals: int = 0, steady: bool = False) -> Metric:
    kind = ValueKind.COUNTER
    return Metric(name, unit, kind, rate, decimals=decimals, steady=steady, low=0.0, description=description)


def _switch(name: str, driver: str, description: str, every: int = 1) -> Metric:
    return Metric(name, kind=ValueKind.BOOLEAN, weights={driver: 1.0}, every=every, description=description)


def _state(name: str, texts: tuple[str, ...], description: str) -> Metric:
    return Metric(name, kind=ValueKind.TEXT, texts=texts, every=5, description=description)


UPTIME = _counter("uptime_seconds", "s", 1.0, "Seconds since the last restart", steady=True)
ENERGY = _counter("energy_kwh", "kWh", 0.0011, "Energy used since the last restart", decimals=3)

DEVICE_TYPES = (
    DeviceType("pump", "Pump", (("Grundwerk", "CR 45"), ("Hydrosol", "P-220"), ("Hydrosol", "P-360")), (
        _gauge("flow", "l/min", 4.0, "Volume flow", weights={"running": 180, "load": 60}, slow=6, white=2, low=0,
               high=600, decimals=1),
        _gauge("pressure", "bar", 1.8, "Pressure at the outlet", weights={"running": 2.4}, slow=0.1, white=0.03, low=0,
               high=16),
        _gauge("motor_temperature", "°C", 34, "Temperature of the motor", weights={"load": 22, "day": 3}, slow=1.5,
               slow_period=2 * HOUR, white=0.2, low=-20, high=160, decimals=1),
        _gauge("vibration", "mm/s", 0.6, "Vibration velocity", weights={"running": 1.6}, slow=0.12, white=0.08, low=0,
               high=50),
        _switch("running", "running", "Whether the motor runs"),
        _state("operating_state", ("automatic", "manual", "standby"), "Mode of operation"),
        ENERGY,
    )),
    DeviceType("cold-store", "Cold store", (("Nordkühl", "KS 12"), ("Frigomax", "C-800")), (
        _gauge("room_temperature", "°C", -20, "Temperature of the room", spread=0.08,
               weights={"defrost": 4.5, "door": 1.2, "day": 0.5}, slow=0.3, white=0.08, low=-45, high=60),
        _gauge("humidity", "%", 72, "Relative humidity", weights={"door": 7, "day": -3}, slow=3, white=0.6, low=0,
               high=100, decimals=1),
        _gauge("compressor_current", "A", 0.4, "Current of the compressor", weights={"cooling": 11.5, "day": 0.6},
               slow=0.3, white=0.1, low=0, high=60),
        _switch("door_open", "door", "Whether the door is open"),
        _state("operating_state", ("cooling", "standby", "defrost"), "Mode of operation"),
        ENERGY,
    ), weekly=0.4),
    DeviceType("gateway", "Gateway", (("Teleweg", "GX4"), ("Teleweg", "GX4 LTE")), (
        _gauge("signal_strength", "dBm", -82, "Signal strength of the mobile network", weights={"load": -5}, slow=3.5,
               white=1.2, low=-125, high=-30, decimals=0),
        _gauge("cpu_usage", "%", 9, "CPU usage", weights={"load": 14}, slow=3, white=1.5, low=0, high=100, decimals=1),
        _gauge("supply_voltage", "V", 24.1, "Supply voltage", spread=0.01, weights={"load": -0.3}, slow=0.05,
               white=0.02, low=0, high=36),
        _counter("rx_bytes", "B", 2400, "Bytes received since the last restart"),
        _counter("tx_bytes", "B", 900, "Bytes sent since the last restart"),
        UPTIME,
    )),
    DeviceType("weather-station", "Weather station", (("Meteon", "WS 3"), ("Meteon", "WS 5")), (
        _gauge("air_temperature", "°C", 10, "Air temperature", weights={"day": 4.5, "year": 9}, slow=2.2,
               slow_period=12 * HOUR, white=0.1, low=-45, high=60, decimals=1),
        _gauge("humidity", "%", 68, "Relative humidity", weights={"day": -14}, slow=6, slow_period=8 * HOUR, white=0.5,
               low=0, high=100, decimals=1),
        _gauge("air_pressure", "hPa", 1013, "Air pressure", spread=0.002, slow=8, slow_period=36 * HOUR, white=0.05,
               low=870, high=1085, decimals=1),
        _gauge("wind_speed", "m/s", 3, "Wind speed", weights={"day": 1}, slow=2, slow_period=3 * HOUR, white=0.5,
               low=0, high=75, decimals=1),
        _gauge("solar_radiation", "W/m²", 0, "Solar radiation", weights={"sun": 780}, white=1.5, low=0, high=1400,
               decimals=0),
        _gauge("rain_rate", "mm/h", -3.2, "Rain rate", slow=3, slow_period=2 * HOUR, low=0, high=300, decimals=1),
    ), weekly=1.0),
    DeviceType("server", "Server", (("Dellmark", "R450"), ("Linode", "dedicated 8")), (
        _gauge("cpu_usage", "%", 7, "CPU usage", weights={"load": 52}, slow=5, slow_period=HOUR // 2, white=2.5, low=0,
               high=100, decimals=1),
        _gauge("memory_usage", "%", 42, "Memory usage", weights={"load": 16}, slow=3, slow_period=4 * HOUR, white=0.2,
               low=0, high=100, decimals=1),
        _gauge("disk_usage", "%", 38, "Usage of the data disk", weights={"fill": 34}, white=0.02, low=0, high=100),
        _gauge("response_time", "ms", 28, "Mean response time", weights={"load": 45}, slow=6, white=4, low=0,
               high=60_000, decimals=1),
        _counter("requests_total", "", 38, "Requests since the last restart"),
        _counter("rx_bytes", "B", 61_000, "Bytes received since the last restart"),
        _switch("service_healthy", "healthy", "Whether the health check passes"),
        UPTIME,
    ), weekly=0.45),
)  # fmt: skip
TYPE_NAMES = tuple(device_type.name for device_type in DEVICE_TYPES)
