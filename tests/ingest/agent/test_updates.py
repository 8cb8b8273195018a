"""Self-update: a program of the site is verified, tried, and installed only when it has delivered."""

import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest.agent import VERSION
from ingest.agent.build_zipapp import build
from ingest.agent.config import Config
from ingest.agent.http_connection import HttpAnswer
from ingest.agent.updates import Updater
from tests.ingest.agent.conftest import RecordingSite
from tests.ingest.agent.site_signature import SITE_KEY, SITE_KEY_TEXT, signed_offer
from tests.ingest.agent.test_agent import wait_until, write_config

FOREIGN_KEY = Ed25519PrivateKey.from_private_bytes(b"f" * 32)


def program(version: str = "9.0.0", **replaced: str) -> bytes:
    """Return the agent with another version; `replaced` has other contents of its modules."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(build())) as source, zipfile.ZipFile(buffer, "w") as changed:
        for name in source.namelist():
            content = source.read(name)
            if name == "ingest/agent/__init__.py":
                content = content.replace(VERSION.encode(), version.encode())
            module = Path(name).stem if name.startswith("ingest/agent/") else ""
            changed.writestr(name, replaced.get(module, content))
    return buffer.getvalue()


def offered(content: bytes, offer: bytes) -> Any:
    def fetch(path: str) -> HttpAnswer:
        return HttpAnswer(200, Message(), {"/agent.json": offer, "/agent.pyz": content}[path], 0.0, 0.0)

    return fetch


def signed(content: bytes, version: str = "9.0.0", **key: Any) -> bytes:
    return signed_offer(version, hashlib.sha256(content).hexdigest(), **key)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    path = tmp_path / "agent.pyz"
    path.write_bytes(build())
    path.chmod(0o750)
    return path


def updater(installed: Path, update: bool = True, trial_time: float = 1.5) -> Updater:
    queue = installed.parent / "queue.db"
    config = Config("http://127.0.0.1:1", "box", queue_path=queue, site_key=SITE_KEY, update=update)
    return Updater(installed, installed.parent / "agent.ini", config, trial_time)


NEW = program()


@pytest.mark.parametrize(
    ("content", "offer", "error"),
    [
        (NEW, signed(NEW, key=FOREIGN_KEY), "the signature is not of this site's key"),
        (NEW + b"x", signed(NEW), "does not have the checksum"),
        (NEW, b'{"version": "9.0.0"}', "version, sha256 and signature are required"),
        (NEW, b'{"version": "9.0.0", "sha256": "x", "signature": "?"}', "the signature is not"),
        (NEW, b"<html>", ""),
        (NEW, signed(NEW, VERSION), ""),  # not newer
        (NEW, signed(NEW, "0.9.9"), ""),
        (build(), signed(build()), ""),  # installed already, whatever its version is said to be
    ],
)
def test_program_that_is_not_of_the_site_or_not_newer_is_ignored(
    installed: Path, content: bytes, offer: bytes, error: str
) -> None:
    update = updater(installed)
    assert not update.poll(offered(content, offer))
    assert error in update.error
    assert bool(error) == bool(update.error)
    assert not update.install(lambda seconds: False)
    assert installed.read_bytes() == build()


def test_update_is_off_by_default(installed: Path) -> None:
    assert Config("http://127.0.0.1:1", "box").update is False
    assert not updater(installed, update=False).poll(lambda path: pytest.fail(f"asked for {path}"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "error"),
    [
        ("raise SystemExit(3)", "it ended with status 3"),
        ("import time\ndef main():\n    time.sleep(60)", "delivered nothing within 1.5 s"),
    ],
)
def test_program_that_does_not_deliver_is_not_installed_and_not_tried_again(
    installed: Path, main: str, error: str
) -> None:
    content = program(__main__=main)
    update = updater(installed)
    assert update.poll(offered(content, signed(content)))
    stopped = iter([False] * 1000)

    def wait(seconds: float) -> bool:
        import time

        time.sleep(seconds)
        return next(stopped)

    assert not update.install(wait)
    assert error in update.error
    assert installed.read_bytes() == build()
    assert not updater(installed).poll(offered(content, signed(content)))  # also after a restart
    assert {path.name for path in installed.parent.iterdir()} == {"agent.pyz", "queue.db.update"}
    assert updater(installed).poll(offered(NEW, signed(NEW)))


@pytest.mark.slow
def test_running_agent_installs_the_newer_program_and_loses_nothing(
    recording_site: RecordingSite, installed: Path, tmp_path: Path
) -> None:
    options = f"site_key = {SITE_KEY_TEXT}\nupdate = on\nwebsocket_port = 0\nhttp_port = 0\nstatsd_port = 0\n"
    config = write_config(tmp_path, recording_site.url, options)
    recording_site.files.update({"/agent.json": signed(NEW), "/agent.pyz": NEW})
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, str(installed), "run", "--config", str(config)], cwd="/", env=environment
    )

    def versions() -> list[Any]:
        return [value for (_, _, name), value in sorted(recording_site.stored.items()) if name == "agent.version"]

    try:
        wait_until(lambda: installed.read_bytes() == NEW, 30)
        count = len(versions())
        wait_until(lambda: len(versions()) > count + 1)  # by the process that replaced itself
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    assert versions()[0] == VERSION and versions()[-1] == "9.0.0"
    assert stat.S_IMODE(installed.stat().st_mode) == 0o750
    assert not list(tmp_path.glob("*.new"))
    assert {value for (_, _, name), value in recording_site.stored.items() if name == "agent.update.error"} == {"none"}
