"""Configuration that the site sets for a device: the interval and probes, signed with the key of the site.

The document is JSON with device_id, version, interval and probes, each with name, run or path, interval and timeout.
The site checks what a user enters with `parse_settings`, so both accept the same.
"""

from __future__ import annotations

import base64
import binascii
import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ingest.agent.config import LIMITS, MAX_NAME_LENGTH, Config, Probe
from ingest.agent.ed25519 import verify

PURPOSE = b"telemetry agent configuration\n"  # a signature is valid for nothing else
MAX_PROBES = 50
MAX_TEXT = 1000  # characters of a command or a path
MAX_DOCUMENT = 256 * 1024  # characters
_PROBE_FIELDS = {"name", "run", "path", "interval", "timeout"}


class InvalidRemoteConfig(ValueError):
    """The document of the site cannot be used; the message names the field."""


@dataclass(frozen=True)
class RemoteConfig:
    """Settings of the site. `interval` is None if the agent's own interval applies."""

    version: int = 0
    interval: float | None = None
    probes: tuple[Probe, ...] = ()

    def applied_to(self, config: Config) -> Config:
        """Return a configuration with the settings of the site; a probe replaces one of the same name."""
        interval = config.interval if self.interval is None else self.interval
        names = {probe.name for probe in self.probes}
        kept = tuple(probe for probe in config.probes if probe.name not in names)
        return replace(config, interval=interval, probes=(*kept, *self.probes))


def parse_settings(interval: Any, probes: Any) -> RemoteConfig:
    """Return the settings of a document. Raises InvalidRemoteConfig."""
    if interval is not None:
        interval = _number("interval", interval)
    if not isinstance(probes, list) or len(probes) > MAX_PROBES:
        raise InvalidRemoteConfig(f"probes: a list of at most {MAX_PROBES} probes is accepted")
    parsed = tuple(_probe(f"probes[{index}]", probe, interval) for index, probe in enumerate(probes))
    if len({probe.name for probe in parsed}) < len(parsed):
        raise InvalidRemoteConfig("probes: each name is accepted once")
    return RemoteConfig(interval=interval, probes=parsed)


def _probe(field: str, probe: Any, interval: float | None) -> Probe:
    if not isinstance(probe, dict):
        raise InvalidRemoteConfig(f"{field}: an object with name and run or path is accepted")
    unknown = sorted(set(map(str, probe)) - _PROBE_FIELDS)
    if unknown:
        raise InvalidRemoteConfig(f"{field}.{unknown[0]:.80}: {', '.join(sorted(_PROBE_FIELDS))} are accepted")
    name = _text(f"{field}.name", probe.get("name"), MAX_NAME_LENGTH)
    every = _number(f"{field}.interval", probe["interval"]) if probe.get("interval") is not None else interval
    every = Config.interval if every is None else every
    if ("run" in probe) == ("path" in probe):
        raise InvalidRemoteConfig(f"{field}: either run or path is accepted")
    if "path" in probe:
        if "timeout" in probe:
            raise InvalidRemoteConfig(f"{field}.timeout: accepted with run only")
        return Probe(name, every, path=Path(_text(f"{field}.path", probe["path"], MAX_TEXT)))
    run = _text(f"{field}.run", probe["run"], MAX_TEXT)
    try:
        command = tuple(shlex.split(run))
    except ValueError as error:
        raise InvalidRemoteConfig(f"{field}.run: {error}") from None
    if not command:
        raise InvalidRemoteConfig(f"{field}.run: a command with its arguments is accepted")
    timeout = _number(f"{field}.timeout", probe["timeout"]) if "timeout" in probe else Probe.timeout
    return Probe(name, every, command, timeout=timeout)


def _text(field: str, value: Any, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise InvalidRemoteConfig(f"{field}: a text of 1 to {longest} printable characters is accepted")
    return value


def _number(field: str, value: Any) -> float:
    low, high = LIMITS[field.rpartition(".")[2]]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidRemoteConfig(f"{field}: a number of seconds from {low:g} to {high:g} is accepted")
    return float(value)


@dataclass(frozen=True)
class SignedConfig:
    """A document of the site and its signature (base64)."""

    document: str
    signature: str

    @classmethod
    def parse(cls, envelope: Any) -> SignedConfig:
        """Return the signed document of an answer or a file. Raises InvalidRemoteConfig."""
        document = envelope.get("document") if isinstance(envelope, dict) else None
        signature = envelope.get("signature") if isinstance(envelope, dict) else None
        if not isinstance(document, str) or not isinstance(signature, str) or len(document) > MAX_DOCUMENT:
            raise InvalidRemoteConfig("a document and its signature are required")
        return cls(document, signature)

    def verified(self, site_key: bytes, device_id: str) -> RemoteConfig:
        """Return the configuration. Raises InvalidRemoteConfig."""
        try:
            signature = base64.b64decode(self.signature, validate=True)
            signed = PURPOSE + self.document.encode()
        except (binascii.Error, ValueError):
            raise InvalidRemoteConfig("the signature cannot be read") from None
        if not verify(site_key, signed, signature):
            raise InvalidRemoteConfig("the signature is not of this site's key")
        try:
            document = json.loads(self.document)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise InvalidRemoteConfig("the document is not a JSON object")
        if document.get("device_id") != device_id:
            raise InvalidRemoteConfig(f"the configuration is for the device {document.get('device_id')!r:.80}")
        version = document.get("version")
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise InvalidRemoteConfig("version: a whole number from 1 is accepted")
        return replace(parse_settings(document.get("interval"), document.get("probes")), version=version)
