"""Self-update: the agent of the site is verified, tried beside this one, and takes its place when it has delivered.

This program's file is replaced only after the new one has delivered a snapshot, so a new one that does not start or
does not deliver changes nothing, and neither does a power failure.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.agent import VERSION
from ingest.agent.answers import parse_object
from ingest.agent.config import Config
from ingest.agent.ed25519 import verify
from ingest.agent.http_connection import HttpAnswer
from ingest.agent.queue_repair import beside
from ingest.agent.queue_state import StateFile

log = logging.getLogger(__name__)
OFFER_PATH = "/agent.json"
PROGRAM_PATH = "/agent.pyz"
PURPOSE = b"telemetry agent program\n"
TRIAL_TIME = 180.0  # seconds in which a new program has to deliver
RETRY_TIME = 86400.0  # seconds until a program that failed is tried again
STOP_TIME = 15.0  # seconds


class UpdateFailed(Exception):
    """The program that the site offers is not installed; the message is one line."""


@dataclass(frozen=True)
class Offer:
    """A program that the site offers: its version and checksum, signed."""

    version: str
    sha256: str

    @classmethod
    def verified(cls, answer: dict[str, Any], site_key: bytes) -> Offer:
        """Return the offer of an answer. Raises UpdateFailed."""
        version, checksum, signature = (answer.get(name) for name in ("version", "sha256", "signature"))
        if not isinstance(version, str) or not isinstance(checksum, str) or not isinstance(signature, str):
            raise UpdateFailed("the site's agent: version, sha256 and signature are required")
        try:
            is_signed = verify(site_key, signed_bytes(version, checksum), base64.b64decode(signature, validate=True))
        except (binascii.Error, ValueError):
            is_signed = False
        if not is_signed:
            raise UpdateFailed("the site's agent is ignored: the signature is not of this site's key")
        return cls(version, checksum)

    @property
    def is_newer(self) -> bool:
        """Return whether the version is higher than this program's; an older one is never installed."""
        return _numbers(self.version) > _numbers(VERSION)


def signed_bytes(version: str, sha256: str) -> bytes:
    """Return what the site signs for a program."""
    return PURPOSE + f"{version}\n{sha256}".encode()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isascii() and part.isdigit())


class Updater:
    """Finds and installs newer programs. `error` says why the one that the site offers is not installed."""

    def __init__(self, program: Path, config_path: Path, config: Config, trial_time: float = TRIAL_TIME) -> None:
        self._program, self._config_path, self._config = program, config_path, config
        self._trial_time = trial_time
        self._state = StateFile(beside(config.queue_path, ".state"))
        self._failures = beside(config.queue_path, ".update")
        self._staged_path = program.with_name(f"{program.name}.new")
        self._staged: Offer | None = None
        self.error = ""

    def poll(self, fetch: Callable[[str], HttpAnswer]) -> bool:
        """Ask the site; return whether a newer program is ready to be installed. Raises errors of the network."""
        if not self._config.update or not zipfile.is_zipfile(self._program):
            return False
        answer = fetch(OFFER_PATH)
        document = parse_object(answer.body) if answer.status == 200 else None
        if document is None:
            return False
        try:
            offer = Offer.verified(document, self._config.site_key)
            if not offer.is_newer or self._is_installed(offer) or self._has_failed(offer):
                return False
            self._stage(offer, fetch)
        except UpdateFailed as error:
            self._report(str(error))
            return False
        return True

    def _is_installed(self, offer: Offer) -> bool:
        return hashlib.sha256(self._program.read_bytes()).hexdigest() == offer.sha256

    def _has_failed(self, offer: Offer) -> bool:
        try:
            failure = json.loads(self._failures.read_bytes())
            return bool(failure["sha256"] == offer.sha256 and abs(time.time() - failure["at"]) < RETRY_TIME)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _stage(self, offer: Offer, fetch: Callable[[str], HttpAnswer]) -> None:
        """Download the program beside this one and check it. Raises UpdateFailed and errors of the network."""
        answer = fetch(PROGRAM_PATH)
        if answer.status != 200 or hashlib.sha256(answer.body).hexdigest() != offer.sha256:
            raise UpdateFailed(f"the site's {PROGRAM_PATH} does not have the checksum that the site signed")
        try:
            with open(self._staged_path, "wb") as file:
                file.write(answer.body)
                file.flush()
                os.fsync(file.fileno())
            self._staged_path.chmod(self._program.stat().st_mode & 0o777)
        except OSError as error:
            raise UpdateFailed(f"{self._staged_path} cannot be written: {error.strerror or error}") from None
        self._staged = offer

    def install(self, wait: Callable[[float], bool]) -> bool:
        """Try the staged program while this agent is stopped; return whether it is installed."""
        offer, self._staged = self._staged, None
        if offer is None:
            return False
        log.info("agent %s of the site is tried", offer.version)
        try:
            self._try(offer, wait)
            self._staged_path.replace(self._program)
        except (UpdateFailed, OSError) as error:
            self._report(f"agent {offer.version} is not installed: {error}")
            return False
        finally:
            with contextlib.suppress(OSError):
                self._staged_path.unlink()
        log.info("agent %s is installed", offer.version)
        return True

    def _try(self, offer: Offer, wait: Callable[[float], bool]) -> None:
        """Run the staged program until it delivers. Raises UpdateFailed, and keeps in mind which program failed."""
        before = self._sent()
        command = [sys.executable, str(self._staged_path), "run", "--config", str(self._config_path)]
        process = subprocess.Popen(command)
        deadline = time.monotonic() + self._trial_time
        try:
            while self._sent() == before:
                if wait(0.2):
                    raise UpdateFailed("the agent is stopped")
                if process.poll() is not None or time.monotonic() > deadline:
                    self._failures.write_text(json.dumps({"sha256": offer.sha256, "at": time.time()}), encoding="utf-8")
                    ended = f"ended with status {process.returncode}"
                    slow = f"delivered nothing within {self._trial_time:g} s"
                    raise UpdateFailed(f"it {slow if process.returncode is None else ended}")
        finally:
            _stop(process)

    def _sent(self) -> int:
        state = self._state.read()
        return 0 if state is None else state.sent

    def _report(self, text: str) -> None:
        if text != self.error:
            log.warning("%s", text)
        self.error = text


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIME)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
