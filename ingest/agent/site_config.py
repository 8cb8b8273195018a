"""The configuration that the site has set for this agent: read from the site, verified, and kept beside the queue."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from ingest.agent.answers import parse_object
from ingest.agent.config import Config
from ingest.agent.http_connection import HttpAnswer
from ingest.agent.queue_repair import beside
from ingest.agent.remote_config import InvalidRemoteConfig, RemoteConfig, SignedConfig

log = logging.getLogger(__name__)
MAX_ERROR = 200  # characters
Fetch = Callable[[str], HttpAnswer]


class SiteConfig:
    """The newest accepted configuration. `error` says why the one that the site offers is not in force."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._path = beside(config.queue_path, ".remote")
        self.error = ""
        self.in_force = RemoteConfig()
        self._load()

    def _load(self) -> None:
        """Use the stored configuration, if it is still the one that the site signed."""
        if not self._config.site_key:
            return
        try:
            self.in_force = self._accepted(SignedConfig.parse(json.loads(self._path.read_bytes())))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            self._report(f"the stored configuration is ignored: {error}")

    def applied(self) -> Config:
        """Return the configuration of the agent with the settings of the site."""
        return self.in_force.applied_to(self._config)

    def poll(self, fetch: Fetch) -> bool:
        """Ask the site; return whether another configuration is in force. Raises errors of the network."""
        if not self._config.site_key:
            return False
        answer = fetch(f"/api/v1/telemetry/devices/{quote(self._config.node_id, safe='')}/agent")
        document = parse_object(answer.body) if answer.status == 200 else None
        if document is None or not document.get("version"):  # nothing is set, or the site is older than this agent
            return False
        try:
            signed = SignedConfig.parse(document)
            config = self._accepted(signed)
            if config.version < self.in_force.version:
                raise InvalidRemoteConfig(f"version {config.version} is older than {self.in_force.version}, in force")
            if config.version > self.in_force.version:
                _write(self._path, signed)
        except (InvalidRemoteConfig, OSError) as error:
            self._report(f"the site's configuration is ignored: {error}")
            return False
        self.error = ""
        is_new, self.in_force = config.version > self.in_force.version, config
        if is_new:
            log.info("configuration %d of the site is in force", config.version)
        return is_new

    def _accepted(self, signed: SignedConfig) -> RemoteConfig:
        config = signed.verified(self._config.site_key, self._config.node_id)
        if config.probes and not self._config.remote_probes:
            raise InvalidRemoteConfig("probes of the site need remote_probes = on in the agent's own configuration")
        return config

    def _report(self, text: str) -> None:
        """Report an error in the log, once, and in the device's metrics."""
        if text[:MAX_ERROR] != self.error:
            log.warning("%s", text)
        self.error = text[:MAX_ERROR]


def _write(path: Path, signed: SignedConfig) -> None:
    """Replace the stored configuration. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump({"document": signed.document, "signature": signed.signature}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
