"""`TelemetryConfig`: settings of the library, from arguments, TELEMETRY_* variables or a JSON file."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
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


@dataclass
class TelemetryConfig:
    """Settings; one that is not given is read from its environment variable, such as TELEMETRY_BUFFER_SIZE.

    `buffer_size` events wait at most; a batch is sent each `processing_interval` seconds; a warning is logged when the
    buffer is filled over the share `alert_threshold`; `max_history_size` received alerts are remembered. The ports are
    those of RealtimeTelemetryServer; 0 takes a free one.
    """

    buffer_size: int = None  # type: ignore[assignment]  # read in __post_init__, as the others
    processing_interval: float = None  # type: ignore[assignment]
    alert_threshold: float = None  # type: ignore[assignment]
    max_history_size: int = None  # type: ignore[assignment]
    enable_websocket: bool = None  # type: ignore[assignment]
    websocket_port: int = None  # type: ignore[assignment]
    enable_http: bool = None  # type: ignore[assignment]
    http_port: int = None  # type: ignore[assignment]
    enable_dashboard: bool = None  # type: ignore[assignment]
    dashboard_port: int = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, source = getattr(self, setting.name), setting.name
            if value is None:
                value, source = _from_environment(setting.name, os.environ)
            setattr(self, setting.name, _check(setting.name, value, source))

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


def _from_environment(name: str, environment: Mapping[str, str]) -> tuple[Any, str]:
    variable = f"TELEMETRY_{name.upper()}"
    text, default = environment.get(variable, "").strip(), DEFAULTS[name]
    if not text:
        return default, name
    if isinstance(default, bool):
        return SWITCHES.get(text.lower(), text), variable
    try:
        return type(default)(text), variable
    except ValueError:
        return text, variable


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
