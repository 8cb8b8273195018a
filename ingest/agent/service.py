"""Installation as a systemd service: of the system for root, of the user for anyone else."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ingest.agent.config import read_config
from ingest.agent.queue import DEFAULT_PATH
from ingest.agent.queue_repair import beside
from ingest.agent.queue_state import StateFile

UNIT_NAME = "telemetry-agent.service"
_FOLDER = "telemetry-agent"
_UNIT_TEXT = """\
[Unit]
Description=Telemetry agent
Documentation=file://{config}
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={python} {program} run --config {config}
Restart=always
RestartSec=5
Environment=MALLOC_ARENA_MAX=1
MemoryHigh=64M
NoNewPrivileges=true
{protection}
[Install]
WantedBy={target}
"""
# Read-only but for the queue, and for the program, which an update replaces.
_PROTECTION = "StateDirectory=telemetry-agent\nProtectSystem=full\nReadWritePaths=/usr/local/lib/telemetry-agent\n"


class InstallFailed(Exception):
    """The service cannot be installed; the message is one line."""


@dataclass(frozen=True)
class Layout:
    """The files of an installation below a root, which is / except in tests and images."""

    root: Path
    program: Path
    unit: Path
    config: Path
    key: Path
    queue: Path
    systemctl: tuple[str, ...] = ("systemctl",)

    @classmethod
    def of_system(cls, root: Path = Path("/")) -> Layout:
        """Return the files of the system's service."""
        return cls(
            root,
            Path("/usr/local/lib") / _FOLDER / "agent.pyz",
            Path("/etc/systemd/system") / UNIT_NAME,
            Path("/etc") / _FOLDER / "agent.ini",
            Path("/etc") / _FOLDER / "key",
            Path(DEFAULT_PATH),
        )

    @classmethod
    def of_user(cls, home: Path, root: Path = Path("/")) -> Layout:
        """Return the files of a user's service."""
        return cls(
            root,
            home / ".local/lib" / _FOLDER / "agent.pyz",
            home / ".config/systemd/user" / UNIT_NAME,
            home / ".config" / _FOLDER / "agent.ini",
            home / ".config" / _FOLDER / "key",
            home / ".local/state" / _FOLDER / "queue.db",
            ("systemctl", "--user"),
        )

    @classmethod
    def of_process(cls, root: Path = Path("/")) -> Layout:
        """Return the layout for the user of this process."""
        is_root = hasattr(os, "geteuid") and os.geteuid() == 0  # not on Windows
        return cls.of_system(root) if is_root else cls.of_user(Path.home(), root)

    @property
    def is_of_user(self) -> bool:
        return "--user" in self.systemctl

    def below(self, path: Path) -> Path:
        """Return where a file is written."""
        return self.root / path.relative_to("/")

    def run_systemctl(self, *arguments: str) -> None:
        """Run systemctl, unless the files are not those of this machine. Raises InstallFailed."""
        if self.root == Path("/"):
            _run(*self.systemctl, *arguments)


def default_config() -> Path:
    """Return the configuration of this user's service, or that of the system if the user has none."""
    own, system = Layout.of_process().config, Layout.of_system().config
    return own if own.exists() else system


def install(layout: Layout, url: str, node_id: str, key: str, site_key: str) -> None:
    """Install or update the service. With another root than / only the files are written."""
    program = Path(sys.argv[0]).resolve()
    if not zipfile.is_zipfile(program):
        raise InstallFailed(f"{program} is not agent.pyz: install runs from the downloaded file")
    try:
        _write_files(layout, program, {"url": url, "node_id": node_id, "site_key": site_key}, key)
        layout.run_systemctl("daemon-reload")
        layout.run_systemctl("enable", UNIT_NAME)
        layout.run_systemctl("restart", UNIT_NAME)
    except OSError as error:
        raise InstallFailed(f"{error.filename or program}: {error.strerror or error}") from None
    if layout.is_of_user:
        print("it runs while you are logged in; `loginctl enable-linger` lets it run always", file=sys.stderr)


def _write_files(layout: Layout, program: Path, options: dict[str, str], key: str) -> None:
    for path in (layout.program, layout.unit, layout.config, layout.queue):
        layout.below(path).parent.mkdir(parents=True, exist_ok=True)
    installed = layout.below(layout.program)
    if program != installed:  # renamed into place: the running agent reads its modules from the old file
        temporary = installed.with_name(f"{installed.name}.copy")
        shutil.copyfile(program, temporary)
        temporary.replace(installed)
    if key:
        _write_private(layout.below(layout.key), key + "\n")
    config = layout.below(layout.config)
    if options["url"]:
        _write_config(layout, config, options)
    elif not config.exists():
        raise InstallFailed("--url is missing: the URL of the site is required for the first installation")
    read_config(config)
    unit = _UNIT_TEXT.format(
        python=sys.executable,
        program=layout.program,
        config=layout.config,
        protection="" if layout.is_of_user else _PROTECTION,
        target="default.target" if layout.is_of_user else "multi-user.target",
    )
    layout.below(layout.unit).write_text(unit, encoding="utf-8")


def _write_config(layout: Layout, config: Path, options: dict[str, str]) -> None:
    """Set options of the configuration; probes and limits stay."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(config, encoding="utf-8")
    if not parser.has_section("agent"):
        parser.add_section("agent")
    section = parser["agent"]
    section.update({name: value for name, value in options.items() if value})
    section["key_file"] = str(layout.key)
    section.setdefault("queue_path", str(layout.queue))
    temporary = config.with_name(f"{config.name}.new")
    with open(temporary, "w", encoding="utf-8") as file:
        parser.write(file)
    temporary.replace(config)


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)


def uninstall(layout: Layout, keep_data: bool, discard: bool) -> None:
    """Remove the service; its configuration and key unless `keep_data`; its queue unless snapshots are unsent."""
    unit = layout.below(layout.unit)
    if unit.exists():
        layout.run_systemctl("disable", "--now", UNIT_NAME)
    folders = [layout.program.parent]
    if not keep_data:
        folders.append(layout.config.parent)
        unsent = _unsent(layout.below(layout.queue))
        if discard or not unsent:
            folders.append(layout.queue.parent)
        else:
            print(f"{unsent} unsent snapshots are kept in {layout.queue.parent}: --discard deletes them")
    try:
        unit.unlink(missing_ok=True)
        for folder in map(layout.below, folders):
            if folder.exists():
                shutil.rmtree(folder)
    except OSError as error:
        raise InstallFailed(f"{error.filename}: {error.strerror}") from None
    layout.run_systemctl("daemon-reload")


def _unsent(queue: Path) -> int:
    state = StateFile(beside(queue, ".state")).read()
    return 0 if state is None else state.pending


def _run(*command: str) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise InstallFailed("systemctl is missing: without systemd, start `agent.pyz run` by other means") from None
    except subprocess.TimeoutExpired:
        raise InstallFailed(f"{' '.join(command)} did not end within 60 s") from None
    if result.returncode != 0:
        raise InstallFailed(f"{' '.join(command)}: {' '.join(result.stderr.split())[:200]}")
