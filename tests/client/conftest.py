"""The `telemetry` command in a shell, against the web server of the tests."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from telemetry_client.site import Site
from tests.conftest import ApiClient
from tests.telemetry_site.site_process import ROOT, clean_environment

TIMEOUT = 60


@dataclass
class Result:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass
class Shell:
    """A shell in an empty folder, in which `telemetry` is the command of this checkout."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        command = self.folder / "bin" / "telemetry"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m telemetry_client "$@"\n')
        command.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        settings = {"PATH": path, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(self.folder / "config")}
        return clean_environment(**settings, TZ="UTC", NO_PROXY="*", **self.variables)

    def run(self, line: str, text: str = "") -> Result:
        """Run a line of shell."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], cwd=self.folder, env=self.environment, input=text,
            capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def succeed(self, line: str, text: str = "") -> Result:
        """Run a line of shell that must succeed and write nothing on standard error."""
        result = self.run(line, text)
        assert (result.code, result.err) == (0, ""), result
        return result

    @contextmanager
    def background(self, line: str) -> Iterator["BackgroundCommand"]:
        """Run a command while the block runs; yields the lines that it writes."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_accept_interrupts,
        )  # fmt: skip
        command = BackgroundCommand(process)
        try:
            yield command
        finally:
            command.stop()


def _accept_interrupts() -> None:
    """Let SIGINT end the command: a test run that was started in the background of a script ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class BackgroundCommand:
    """A running command, and the lines that it has written."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            with self._changed:
                self.lines.append(text.rstrip("\n"))
                self._changed.notify_all()

    def wait_for(self, part: str, timeout: float = 20) -> str:
        """Return the first line that contains a text."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: any(part in text for text in self.lines), timeout)
        assert arrived, (part, self.lines)
        return next(text for text in self.lines if part in text)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=TIMEOUT)
        self._reader.join(timeout=TIMEOUT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def url_of(caller: ApiClient) -> str:
    return f"http://127.0.0.1:{caller.port}"


def site_of(caller: ApiClient) -> Site:
    return Site(url_of(caller), caller.headers["X-Api-Key"])


def variables_of(caller: ApiClient) -> dict[str, str]:
    """Return the environment variables that name the site and key of a client."""
    return {"TELEMETRY_URL": url_of(caller), "TELEMETRY_API_KEY": caller.headers["X-Api-Key"]}


@pytest.fixture
def shell(tmp_path: Path, admin: ApiClient) -> Shell:
    """A shell whose environment names the site and a key of scope admin."""
    return Shell(tmp_path, variables_of(admin))


@pytest.fixture
def bare_shell(tmp_path: Path, admin: ApiClient) -> Shell:
    """A shell without a configured site."""
    return Shell(tmp_path)
