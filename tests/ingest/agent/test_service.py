"""Installation as a service of the system and of a user, and what uninstall leaves."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.agent.build_zipapp import write
from ingest.agent.config import read_config
from ingest.agent.queue import TelemetryQueue
from ingest.agent.service import Layout
from tests.ingest.agent.conftest import snapshot
from tests.ingest.agent.site_signature import SITE_KEY, SITE_KEY_TEXT

SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""
INSTALL = ("--url", "https://site.example", "--node-id", "box", "--site-key", SITE_KEY_TEXT, "--key-stdin")
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
pytestmark = pytest.mark.slow


class Machine:
    """A root folder and a user on it."""

    def __init__(self, folder: Path, is_root: bool) -> None:
        self.root = folder / "root"
        self.home = Path("/root" if is_root else "/home/anna")
        self.is_root = is_root
        self.layout = Layout.of_system(self.root) if is_root else Layout.of_user(self.home, self.root)
        write(folder)
        self.archive = folder / "agent.pyz"
        self.root.mkdir()
        folder.chmod(0o755)
        for path in (folder, self.root):
            os.chown(path, *self.ids)

    @property
    def ids(self) -> tuple[int, int]:
        return (os.getuid(), os.getgid()) if self.is_root or os.getuid() else (65534, 65534)

    def run(self, *arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
        user, group = self.ids
        other = {} if user == os.getuid() else {"user": user, "group": group, "extra_groups": []}
        return subprocess.run(
            [SYSTEM_PYTHON if other else sys.executable, str(self.archive), *arguments, "--root", str(self.root)],
            input=key, text=True, capture_output=True, timeout=20, env={"HOME": str(self.home), "PATH": "/usr/bin"},
            check=False, **other,  # type: ignore[call-overload]
        )  # fmt: skip

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


@pytest.fixture(params=["system", "user"])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    is_root = request.param == "system"
    if is_root and os.getuid():
        pytest.skip("needs root")
    if not is_root and not os.getuid() and not SYSTEM_PYTHON:
        pytest.skip("needs a Python that every user may run")
    folder = tmp_path_factory.mktemp("machine")
    for parent in folder.parents:  # those of pytest are closed to other users
        if parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o755)
    return Machine(folder, is_root)


def test_installed_files_are_updated_and_removed(machine: Machine) -> None:
    layout = machine.layout
    assert machine.run("install", *INSTALL, key="tk_secret\n").returncode == 0
    key = layout.below(layout.key)
    assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("tk_secret\n", 0o600)
    config_path = layout.below(layout.config)
    with config_path.open("a") as file:
        file.write("[command:x]\nrun = echo 1\n")
    assert machine.run("install").returncode == 0  # an update
    config = read_config(config_path)
    assert (config.url, config.node_id, config.site_key) == ("https://site.example", "box", SITE_KEY)
    assert (config.key_file, config.queue_path, len(config.probes)) == (layout.key, layout.queue, 1)
    assert machine.run("uninstall", "--keep-data").returncode == 0
    assert config_path.exists() and not layout.below(layout.program).exists()
    assert machine.run("uninstall").returncode == 0
    assert machine.files() == []


def test_uninstall_keeps_snapshots_that_were_not_sent(machine: Machine) -> None:
    layout = machine.layout
    machine.run("install", *INSTALL, key="tk_secret\n")
    queue = TelemetryQueue(layout.below(layout.queue))
    queue.enqueue_many([snapshot(number) for number in range(3)])
    queue.close()
    for path in layout.below(layout.queue).parent.iterdir():
        os.chown(path, *machine.ids)
    result = machine.run("uninstall")
    assert result.stdout == f"3 unsent snapshots are kept in {layout.queue.parent}: --discard deletes them\n"
    assert {Path(name).parent.name for name in machine.files()} == {"telemetry-agent"}
    reopened = TelemetryQueue(layout.below(layout.queue))
    assert reopened.get_queue_size() == 3
    reopened.close()
    assert machine.run("uninstall", "--discard").returncode == 0
    assert machine.files() == []


@needs_systemd
def test_unit_is_valid_for_systemd(machine: Machine, tmp_path: Path) -> None:
    layout = machine.layout
    machine.run("install", *INSTALL, key="tk_secret\n")
    text = layout.below(layout.unit).read_text()
    assert f"{layout.program} run --config {layout.config}" in text
    unit = tmp_path / layout.unit.name
    unit.write_text(text.replace("file:///home/anna", "file:///root"))
    mode = ["--user"] if layout.is_of_user else []
    checked = subprocess.run(
        ["systemd-analyze", *mode, "verify", "--man=no", str(unit)],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_LOG_LEVEL": "warning"},
    )  # fmt: skip
    assert (checked.returncode, [line for line in checked.stderr.splitlines() if unit.name in line]) == (0, [])


def test_install_without_systemd_says_how_to_go_on(machine: Machine) -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from ingest.agent.service import _run; _run('systemctl', 'daemon-reload')"],
        capture_output=True, text=True, timeout=20, env={"PATH": "/nowhere"}, check=False,
    )  # fmt: skip
    assert "without systemd, start `agent.pyz run` by other means" in result.stderr
