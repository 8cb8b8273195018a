"""Installation as a systemd service."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from ingest.agent.config import DEFAULT_CONFIG, read_config
from ingest.agent.queue import DEFAULT_PATH

UNIT_NAME = "telemetry-agent.service"
_PROGRAM = "usr/local/lib/telemetry-agent/agent.pyz"
_UNIT = f"etc/systemd/system/{UNIT_NAME}"
_CONFIG = DEFAULT_CONFIG.lstrip("/")
_KEY = "etc/telemetry-agent/key"
_UNIT_TEXT = """\
[Unit]
Description=Telemetry agent
Documentation=file:///etc/telemetry-agent/agent.ini
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={python} /{program} run --config /{config}
Restart=always
RestartSec=5
StateDirectory=telemetry-agent
Environment=MALLOC_ARENA_MAX=1
MemoryHigh=64M
NoNewPrivileges=true
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""


class InstallFailed(Exception):
    """The service cannot be installed; the message is one line."""


def install(root: Path, url: str, node_id: str, key: str) -> None:
    """Install or update the service. With another root than / only the files are written."""
    program = Path(sys.argv[0]).resolve()
    if not zipfile.is_zipfile(program):
        raise InstallFailed(f"{program} is not agent.pyz: install runs from the downloaded file")
    try:
        _write_files(root, program, url, node_id, key)
        if root == Path("/"):
            _systemctl("daemon-reload")
            _systemctl("enable", UNIT_NAME)
            _systemctl("restart", UNIT_NAME)
    except OSError as error:
        raise InstallFailed(f"{error.filename or program}: {error.strerror or error}") from None


def _write_files(root: Path, program: Path, url: str, node_id: str, key: str) -> None:
    for name in (_PROGRAM, _UNIT, _CONFIG, DEFAULT_PATH.lstrip("/")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    if program != root / _PROGRAM:
        shutil.copyfile(program, root / _PROGRAM)
    if key:
        _write_private(root / _KEY, key + "\n")
    if url:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(root / _CONFIG, encoding="utf-8")  # probes and limits stay
        if not parser.has_section("agent"):
            parser.add_section("agent")
        parser["agent"].update({"url": url, "key_file": f"/{_KEY}", **({"node_id": node_id} if node_id else {})})
        temporary = root / f"{_CONFIG}.new"
        with open(temporary, "w", encoding="utf-8") as file:
            parser.write(file)
        temporary.replace(root / _CONFIG)
    elif not (root / _CONFIG).exists():
        raise InstallFailed("--url is missing: the URL of the site is required for the first installation")
    read_config(root / _CONFIG)
    unit = _UNIT_TEXT.format(python=sys.executable, program=_PROGRAM, config=_CONFIG)
    (root / _UNIT).write_text(unit, encoding="utf-8")


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)


def uninstall(root: Path, keep_data: bool) -> None:
    """Remove the service, and unless `keep_data` its configuration, key and queue."""
    if root == Path("/") and (root / _UNIT).exists():
        _systemctl("disable", "--now", UNIT_NAME)
    folders = [(root / _PROGRAM).parent]
    if not keep_data:
        folders += [(root / _CONFIG).parent, (root / DEFAULT_PATH.lstrip("/")).parent]
    try:
        (root / _UNIT).unlink(missing_ok=True)
        for folder in folders:
            if folder.exists():
                shutil.rmtree(folder)
    except OSError as error:
        raise InstallFailed(f"{error.filename}: {error.strerror}") from None
    if root == Path("/"):
        _systemctl("daemon-reload")


def _systemctl(*arguments: str) -> None:
    try:
        result = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise InstallFailed("systemctl is missing: without systemd, start `agent.pyz run` by other means") from None
    except subprocess.TimeoutExpired:
        raise InstallFailed(f"systemctl {arguments[0]} did not end within 60 s") from None
    if result.returncode != 0:
        raise InstallFailed(f"systemctl {' '.join(arguments)}: {result.stderr.strip()[:200]}")
