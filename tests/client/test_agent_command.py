"""`telemetry agent` on a machine of its own: a mount namespace in which /etc and /usr/local may be written."""

import os
import shlex
import subprocess

import pytest

from ingest.agent import VERSION
from ingest.models import ApiKey
from tests.client.conftest import Shell
from tests.conftest import ApiClient

MOUNTS = (
    "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w /mnt/u2 /mnt/w2 &&"
    " mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /etc &&"
    " mount -t overlay overlay -o lowerdir=/usr/local,upperdir=/mnt/u2,workdir=/mnt/w2 /usr/local &&"
    " mount -t tmpfs none /var/lib"
)
has_namespaces = os.getuid() == 0 and subprocess.run(["unshare", "-m", "sh", "-c", MOUNTS], check=False).returncode == 0
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_namespaces, reason="needs root and mount namespaces"),
]
# Records what systemd is asked to do: no systemd runs in a container.
SYSTEMCTL = '#!/bin/sh\necho "$@" >> "$SYSTEMCTL_LOG"\n'


@pytest.fixture
def machine(shell: Shell) -> Shell:
    """A shell whose `systemctl` records its calls."""
    for name in ("systemctl", "journalctl"):
        file = shell.folder / "bin" / name
        file.write_text(SYSTEMCTL + ('echo "the log of the agent"\n' if name == "journalctl" else ""))
        file.chmod(0o755)
    shell.variables["SYSTEMCTL_LOG"] = str(shell.folder / "calls")
    return shell


def on_machine(*lines: str) -> str:
    """Return a line that runs lines on a machine of its own."""
    script = " && ".join([MOUNTS, *lines])
    return f"unshare --mount sh -c {shlex.quote(script)}"


def test_agent_is_installed_inspected_and_removed(machine: Shell, admin: ApiClient) -> None:
    result = machine.succeed(
        on_machine(
            "telemetry agent install --node-id pump-7",
            "telemetry agent config",
            "telemetry agent config --path",
            "timeout 5 python3 /usr/local/lib/telemetry-agent/agent.pyz run 2> run.log || true",
            "telemetry agent status",
            "telemetry agent logs -n 3",
            "telemetry agent uninstall",
            "find /etc/telemetry-agent /usr/local/lib/telemetry-agent /var/lib/telemetry-agent 2>&1 | wc -l",
        )
    )
    assert f"agent {VERSION} measures pump-7" in result.lines
    assert f"url = {machine.variables['TELEMETRY_URL']}" in result.lines
    assert "/etc/telemetry-agent/agent.ini" in result.lines
    assert "device           pump-7" in result.lines
    assert "the log of the agent" in result.lines
    assert result.lines[-1] == "3"  # each of the folders is missing
    calls = (machine.folder / "calls").read_text().splitlines()
    assert calls[:3] == ["daemon-reload", "enable telemetry-agent.service", "restart telemetry-agent.service"]
    assert "--unit telemetry-agent.service --lines 3 --no-pager" in calls
    key = ApiKey.objects.get(name="agent of pump-7")
    assert (key.scope, key.device and key.device.device_id) == ("ingest", "pump-7")
    assert admin.get("devices/pump-7/metrics/agent.version/latest").json["value"] == VERSION


def test_commands_without_an_agent_say_so(machine: Shell) -> None:
    for command in ("status", "logs", "config", "uninstall"):
        result = machine.run(on_machine(f"telemetry agent {command}"))
        expected = "telemetry: no agent is installed on this machine: run telemetry agent install\n"
        assert (result.code, result.out, result.err) == (1, "", expected)


def test_key_that_may_not_create_keys_installs_nothing(machine: Shell, reader: ApiClient) -> None:
    machine.variables["TELEMETRY_API_KEY"] = reader.headers["X-Api-Key"]
    result = machine.run(on_machine("telemetry agent install --node-id pump-7"))
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "(403)" in result.err
    assert not (machine.folder / "calls").exists()
