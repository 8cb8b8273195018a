"""Configuration file of the agent (INI)."""

from __future__ import annotations

import configparser
import shlex
import socket
from dataclasses import dataclass, field
from pathlib import Path

from ingest.agent.clock_offset import MAX_OFFSET
from ingest.agent.ed25519 import decode_key
from ingest.agent.queue import DEFAULT_PATH, MAX_AGE, MAX_BYTES

MAX_SIZE = 100_000  # snapshots; a day at 10 s has 8,640
MAX_NAME_LENGTH = 200  # as the site accepts
WEBSOCKET_PORT = 8756
HTTP_PORT = 8757
STATSD_PORT = 8125


class InvalidConfig(ValueError):
    """The configuration cannot be used; the message names the file, section and option."""


@dataclass(frozen=True)
class Probe:
    """A custom measurement: the output of a command or the content of a file."""

    name: str
    interval: float
    command: tuple[str, ...] = ()
    path: Path | None = None
    timeout: float = 5.0


@dataclass(frozen=True)
class Config:
    """The settings of the agent. A port of 0 turns the local server off.

    site_key       public key that verifies what the site sends; without it, remote configuration and updates are off
    remote_probes  whether the site may set probes, which are commands that this device runs and files that it reads
    update         whether the agent replaces itself by the newer one of the site
    """

    url: str
    node_id: str
    key_file: Path | None = None
    interval: float = 10.0
    timeout: float = 10.0
    queue_path: Path = Path(DEFAULT_PATH)
    max_size: int = MAX_SIZE
    max_bytes: int = MAX_BYTES
    max_age: float = MAX_AGE
    max_clock_offset: float = MAX_OFFSET
    websocket_port: int = WEBSOCKET_PORT
    http_port: int = HTTP_PORT
    statsd_port: int = STATSD_PORT
    site_key: bytes = b""
    remote_probes: bool = False
    update: bool = False
    probes: tuple[Probe, ...] = field(default=())


LIMITS = {
    "interval": (1.0, 86400.0),
    "timeout": (0.1, 600.0),
    "max_size": (1, 10**9),
    "max_bytes": (65536, 10**12),
    "max_age": (60.0, 10.0**9),
    "max_clock_offset": (5.0, 10.0**9),
    "websocket_port": (0, 65535),
    "http_port": (0, 65535),
    "statsd_port": (0, 65535),
}
_TEXTS = {"url", "node_id", "key_file", "queue_path", "site_key"}
_SWITCHES = {"remote_probes", "update"}
_OPTIONS = _TEXTS | _SWITCHES | set(LIMITS)
_PROBE_OPTIONS = {"command": {"run", "interval", "timeout"}, "file": {"path", "interval"}}


def read_config(path: Path) -> Config:
    """Read a configuration file. Raises InvalidConfig."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise InvalidConfig(f"{path}: {error}") from None
    try:
        return _config(parser)
    except InvalidConfig as error:
        raise InvalidConfig(f"{path}: {error}") from None


def _config(parser: configparser.ConfigParser) -> Config:
    if not parser.has_section("agent"):
        raise InvalidConfig("the section [agent] is missing")
    options = dict(parser["agent"])
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise InvalidConfig(f"[agent] {unknown[0]} is unknown: {', '.join(sorted(_OPTIONS))} are accepted")
    if not options.get("url"):
        raise InvalidConfig("[agent] url is missing: the URL of the site is accepted")
    node_id = options.get("node_id") or socket.gethostname()
    if len(node_id) > MAX_NAME_LENGTH:
        raise InvalidConfig(f"[agent] node_id has {len(node_id)} characters: at most {MAX_NAME_LENGTH} are accepted")
    site_key = _site_key(options.get("site_key", ""))
    switches = {name: _switch(name, options[name]) for name in _SWITCHES if name in options}
    if not site_key and any(switches.values()):
        raise InvalidConfig("[agent] site_key is missing: remote_probes and update need the public key of the site")
    numbers = {name: _number("agent", name, options[name]) for name in LIMITS if name in options}
    interval = numbers.get("interval", Config.interval)
    return Config(
        url=options["url"],
        node_id=node_id,
        key_file=Path(options["key_file"]) if options.get("key_file") else None,
        queue_path=Path(options.get("queue_path") or DEFAULT_PATH),
        probes=tuple(_probe(parser, name, interval) for name in parser.sections() if name != "agent"),
        site_key=site_key,
        **switches,
        **numbers,  # type: ignore[arg-type]
    )


def _site_key(text: str) -> bytes:
    try:
        return decode_key(text) if text else b""
    except ValueError as error:
        raise InvalidConfig(f"[agent] site_key is {text!r:.60}: {error}") from None


def _switch(name: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise InvalidConfig(f"[agent] {name} is {text!r:.40}: on or off is accepted")
    return text == "on"


def _number(section: str, name: str, text: str) -> float:
    low, high = LIMITS[name]
    kind = type(low)
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise InvalidConfig(f"[{section}] {name} is {text!r:.40}: a number from {low} to {high} is accepted")
    return value


def _probe(parser: configparser.ConfigParser, section: str, interval: float) -> Probe:
    kind, _, name = section.partition(":")
    if kind not in _PROBE_OPTIONS or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise InvalidConfig(f"[{section}] is unknown: [agent], [command:NAME] and [file:NAME] are accepted")
    options = dict(parser[section])
    unknown = sorted(set(options) - _PROBE_OPTIONS[kind])
    if unknown:
        accepted = ", ".join(sorted(_PROBE_OPTIONS[kind]))
        raise InvalidConfig(f"[{section}] {unknown[0]} is unknown: {accepted} are accepted")
    if "interval" in options:
        interval = _number(section, "interval", options["interval"])
    if kind == "file":
        if not options.get("path"):
            raise InvalidConfig(f"[{section}] path is missing: the path of a file is accepted")
        return Probe(name, interval, path=Path(options["path"]))
    try:
        command = tuple(shlex.split(options.get("run", "")))
    except ValueError as error:
        raise InvalidConfig(f"[{section}] run: {error}") from None
    if not command:
        raise InvalidConfig(f"[{section}] run is missing: a command with its arguments is accepted")
    timeout = _number(section, "timeout", options["timeout"]) if "timeout" in options else Probe.timeout
    return Probe(name, interval, command, timeout=timeout)
