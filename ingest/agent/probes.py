"""Custom measurements: the output of commands and the content of files."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ingest.agent.config import Probe

log = logging.getLogger(__name__)
MAX_OUTPUT = 64 * 1024  # bytes
MAX_FIELDS = 200


def parse_output(name: str, data: bytes) -> dict[str, Any]:
    """Return the fields of an output: a number, or a JSON object of numbers, booleans and texts. Raises ValueError."""
    if len(data) > MAX_OUTPUT:
        raise ValueError(f"more than {MAX_OUTPUT} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("neither a number nor a JSON object") from None
    fields = dict(_fields(name, document, 0))
    if not fields or len(fields) > MAX_FIELDS:
        raise ValueError(f"{len(fields)} values: 1 to {MAX_FIELDS} are accepted")
    return fields


def _fields(name: str, value: Any, level: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and level < 8:
        for key, inner in value.items():
            yield from _fields(f"{name}.{key}", inner, level + 1)
    elif isinstance(value, (bool, str)) or (isinstance(value, (int, float)) and math.isfinite(value)):
        yield name, value
    else:
        raise ValueError(f"{name} is not a number, boolean or text")


def read_probe(probe: Probe) -> dict[str, Any]:
    """Run a probe once. Raises OSError and ValueError."""
    if probe.path is not None:
        with open(probe.path, "rb") as file:
            return parse_output(probe.name, file.read(MAX_OUTPUT + 1))
    return parse_output(probe.name, _run(probe.command, probe.timeout))


def _run(command: Sequence[str], timeout: float) -> bytes:
    """Return the output of a command, which is ended with its children after the timeout."""
    with tempfile.TemporaryFile() as output:  # a pipe that a grandchild keeps open would block
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ValueError(f"no end after {timeout:g} s") from None
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code != 0:
            raise ValueError(f"exit status {code}")
        output.seek(0)
        return output.read(MAX_OUTPUT + 1)


class Probes:
    """Runs each probe in a thread of its own, so that a hanging one delays no other; `take` returns new values."""

    def __init__(self, probes: Sequence[Probe], wait: Callable[[float], bool]) -> None:
        self._wait = wait
        self._lock = threading.Lock()
        self._fields: dict[str, Any] = {}
        self.failing: set[str] = set()
        for probe in probes:
            threading.Thread(target=self._loop, args=(probe,), daemon=True, name=f"probe {probe.name}").start()

    def _loop(self, probe: Probe) -> None:
        while True:
            self.run(probe)
            if self._wait(probe.interval):
                return

    def run(self, probe: Probe) -> None:
        """Run a probe and keep its values. The first of repeated failures is logged."""
        try:
            fields = read_probe(probe)
        except (OSError, ValueError) as error:
            if probe.name not in self.failing:
                log.warning("probe %s failed: %s", probe.name, error)
            self.failing.add(probe.name)
            return
        self.failing.discard(probe.name)
        with self._lock:
            self._fields.update(fields)

    def take(self) -> dict[str, Any]:
        """Return the values since the last call."""
        with self._lock:
            fields, self._fields = self._fields, {}
        return fields
