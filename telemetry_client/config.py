"""`TelemetryConfig`: settings of the library, from arguments, TELEMETRY_* variables or a JSON file."""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from telemetry_client.errors import InvalidInput

DEFAULTS: dict[str, Any] = {
    "buffer_size": 10_000,
    "processing_interval": 1.0,
    "alert_threshold": 0.8,
    "max_history_size": 100_000,
    "enable_websocket": True,
    "websocket_port": 8765,
    "enable_http": True,
    "http_port": 8080,
    "enable_dashboard": True,
    "dashboard_port": 8081,
}
BOUNDS = {
    "buffer_size": (1, 10_000_000),
    "processing_interval": (0.001, 3_600),
    "alert_threshold": (0, 1),
    "max_history_size": (1, 10_000_000),
    "websocket_port": (0, 65_535),
    "http_port": (0, 65_535),
    "dashboard_port": (0, 65_535),
}
SWITCHES = {"on": True, "true": True, "1": True, "yes": True, "off": False, "false": False, "0": False, "no": False}


def _from_environment(name: str) -> Any:
    """Return the checked value of a setting's variable, or else its default. Raises InvalidInput."""
    variable = f"TELEMETRY_{name.upper()}"
    text, default = os.environ.get(variable, "").strip(), DEFAULTS[name]
    if not text:
        return default
    value: Any = text
    if isinstance(default, bool):
        value = SWITCHES.get(text.lower(), text)
    else:
        with contextlib.suppress(ValueError):
            value = type(default)(text)
    return _check(name, value, variable)


def _setting(name: str) -> Any:
    """Return a field whose default is read from the environment."""
    return field(default_factory=partial(_from_environment, name))


@dataclass
class TelemetryConfig:
    """Settings; one that is not given is read from its environment variable, such as TELEMETRY_BUFFER_SIZE.

    `buffer_size` events wait at most; a batch is sent each `processing_interval` seconds; a warning is logged when the
    buffer is filled over the share `alert_threshold`; `max_history_size` received alerts are remembered. The ports are
    those of RealtimeTelemetryServer; 0 takes a free one.
    """

    buffer_size: int = _setting("buffer_size")
    processing_interval: float = _setting("processing_interval")
    alert_threshold: float = _setting("alert_threshold")
    max_history_size: int = _setting("max_history_size")
    enable_websocket: bool = _setting("enable_websocket")
    websocket_port: int = _setting("websocket_port")
    enable_http: bool = _setting("enable_http")
    http_port: int = _setting("http_port")
    enable_dashboard: bool = _setting("enable_dashboard")
    dashboard_port: int = _setting("dashboard_port")

    def __post_init__(self) -> None:
        for setting in fields(self):
            setattr(self, setting.name, _check(setting.name, getattr(self, setting.name), setting.name))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "TelemetryConfig":
        """Return the settings of a configuration file's object. Raises InvalidInput."""
        unknown = sorted(set(document) - set(DEFAULTS))
        if unknown:
            raise InvalidInput(f"{unknown[0]} is not a setting; accepted are {', '.join(DEFAULTS)}")
        return cls(**document)

    @classmethod
    def from_file(cls, path: str | Path) -> "TelemetryConfig":
        """Return the settings of a configuration file. Raises InvalidInput."""
        document = read_json(Path(path))
        if not isinstance(document, dict):
            raise InvalidInput(f"{path} must be an object of settings")
        return cls.from_dict(document)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises InvalidInput."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidInput(f"{path} is not valid JSON: {error}") from None


def _check(name: str, value: Any, source: str) -> Any:
    default = DEFAULTS[name]
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InvalidInput(f"{source} must be true or false, not {value!r}")
        return value
    low, high = BOUNDS[name]
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise InvalidInput(f"{source} must be {kind} of {low} to {high}, not {value!r}")
    return value if whole or math.isfinite(value) else default
