"""The whole agent: configuration, process, installation and zipapp, also with the oldest Python."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.agent.build_zipapp import build, write
from ingest.agent.config import InvalidConfig, read_config
from tests.ingest.agent.conftest import RecordingSite
from tests.ingest.test_snapshot import FLAT

PYTHONS = [sys.executable]
OLDEST = shutil.which("python3.9") or ""
if OLDEST and subprocess.run([OLDEST, "-V"], capture_output=True, check=False).returncode == 0:
    PYTHONS.append(OLDEST)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path / "agent.pyz"


def write_config(tmp_path: Path, url: str, text: str = "") -> Path:
    (tmp_path / "key").write_text("tk_box\n")
    path = tmp_path / "agent.ini"
    path.write_text(
        f"[agent]\nurl = {url}\nnode_id = box\nkey_file = {tmp_path}/key\ninterval = 1\n"
        f"queue_path = {tmp_path}/queue/queue.db\n{text}"
    )
    return path


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_zipapp_measures_queues_sends_and_stops(
    archive: Path, recording_site: RecordingSite, tmp_path: Path, python: str
) -> None:
    websocket, http, statsd = free_port(), free_port(), free_port()
    (tmp_path / "value").write_text('{"level": 3}')
    config = write_config(
        tmp_path,
        recording_site.url,
        f"websocket_port = {websocket}\nhttp_port = {http}\nstatsd_port = {statsd}\n"
        f"[command:answer]\nrun = echo 42\n[file:tank]\npath = {tmp_path}/value\n",
    )
    process = subprocess.Popen(
        [python, str(archive), "run", "--config", str(config)], stderr=subprocess.PIPE, text=True, cwd="/"
    )
    try:
        wait_until(lambda: recording_site.stored)
        request = urllib.request.Request(
            f"http://127.0.0.1:{http}/", b'{"door": true}', {"Content-Type": "application/json"}
        )
        assert urllib.request.urlopen(request, timeout=5).status == 202
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hits:3|c", ("127.0.0.1", statsd))
        wait_until(lambda: {"door", "hits", "answer"} <= {name for _, _, name in recording_site.stored})
        status_text = Path(f"/proc/{process.pid}/status").read_text()
        rss = int(status_text.split("VmRSS:")[1].split()[0])
        assert rss < 40_000  # KB
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    assert "stopped" in errors
    names = {name for _, _, name in recording_site.stored}
    assert set(FLAT) - {"node_id", "timestamp"} <= names
    assert {"tank.level", "agent.version", "agent.queue.depth", "agent.queue.oldest_unsent_seconds"} <= names
    assert {"agent.queue.dropped", "agent.queue.dropped.age", "agent.queue.lost"} <= names
    assert {device for device, _, _ in recording_site.stored} == {"box"}
    assert {request["key"] for request in recording_site.requests} == {"Bearer tk_box"}
    status = subprocess.run([python, str(archive), "status", "--config", str(config)], capture_output=True, text=True)
    assert status.returncode == 0
    assert "device           box" in status.stdout


@pytest.mark.slow
def test_agent_starts_with_a_taken_port_and_an_unreachable_site(archive: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = write_config(
            tmp_path, f"http://127.0.0.1:{free_port()}", f"websocket_port = {port}\nhttp_port = 0\nstatsd_port = 0\n"
        )
        process = subprocess.Popen(
            [sys.executable, str(archive), "run", "--config", str(config)], stderr=subprocess.PIPE, text=True
        )
        wait_until((tmp_path / "queue" / "queue.db.state").exists)
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=15)
    assert process.returncode == 0
    assert f"port 127.0.0.1:{port} for websocket cannot be opened" in errors
    assert errors.count("the site is unavailable (connection_error") == 1


def test_zipapp_has_the_same_bytes_for_the_same_source(archive: Path, tmp_path: Path) -> None:
    assert build() == archive.read_bytes()
    checksum, name = (tmp_path / "agent.pyz.sha256").read_text().split()
    assert (checksum, name) == (hashlib.sha256(archive.read_bytes()).hexdigest(), "agent.pyz")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["run", "--config", "/no/such/file"], "No such file"),
        (["status", "--config", "/no/such/file"], "No such file"),
        (["install", "--root", "ROOT"], "--url is missing"),
    ],
)
def test_command_that_cannot_run_prints_one_line_and_returns_2(
    archive: Path, tmp_path: Path, arguments: list[str], error: str
) -> None:
    arguments = [str(tmp_path / "root") if argument == "ROOT" else argument for argument in arguments]
    result = subprocess.run([sys.executable, str(archive), *arguments], capture_output=True, text=True, timeout=20)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert error in result.stderr


@pytest.mark.slow
def test_once_prints_a_snapshot_as_json(archive: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(archive), "once", "--config", str(tmp_path / "none")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert set(json.loads(result.stdout)) >= set(FLAT)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", r"the section \[agent\] is missing"),
        ("url = x", "no section headers"),
        ("[agent]\n", r"\[agent\] url is missing"),
        ("[agent]\nurl = x\ninterva = 5", r"\[agent\] interva is unknown: .*interval"),
        ("[agent]\nurl = x\ninterval = 0", r"\[agent\] interval is '0': a number from 1.0 to 86400.0"),
        ("[agent]\nurl = x\ninterval = nan", "interval is 'nan'"),
        ("[agent]\nurl = x\nmax_bytes = lots", "max_bytes is 'lots'"),
        ("[agent]\nurl = x\nhttp_port = 70000", "http_port is '70000': a number from 0 to 65535"),
        (f"[agent]\nurl = x\nnode_id = {'x' * 201}", "node_id has 201 characters"),
        ("[agent]\nurl = x\n[probe]\na = 1", r"\[probe\] is unknown"),
        ("[agent]\nurl = x\n[command:a]\n", r"\[command:a\] run is missing"),
        ("[agent]\nurl = x\n[command:a]\nrun = 'x", r"\[command:a\] run: No closing quotation"),
        ("[agent]\nurl = x\n[file:a]\nrun = x", r"\[file:a\] run is unknown: interval, path are accepted"),
        ("[agent]\nurl = x\n[file:a]\n", r"\[file:a\] path is missing"),
    ],
)
def test_invalid_configuration_names_section_and_option(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "agent.ini"
    path.write_text(text)
    with pytest.raises(InvalidConfig, match=error):
        read_config(path)


def test_defaults_keep_a_day_and_run_every_10_seconds(tmp_path: Path) -> None:
    path = tmp_path / "agent.ini"
    path.write_text("[agent]\nurl = https://site.example\n")
    config = read_config(path)
    assert (config.interval, config.max_age, config.max_bytes) == (10.0, 7 * 86400, 256 * 1024 * 1024)
    assert config.max_size * config.interval > 86400
    assert config.node_id == os.uname().nodename
    assert (config.websocket_port, config.http_port, config.statsd_port) == (8756, 8757, 8125)


def test_configuration_of_the_documentation_is_accepted(tmp_path: Path) -> None:
    document = (Path(__file__).parents[3] / "docs" / "use" / "edge-agent.md").read_text()
    path = tmp_path / "agent.ini"
    path.write_text(document.partition("```ini\n")[2].partition("```")[0])
    config = read_config(path)
    assert (config.node_id, config.interval, config.max_age, config.statsd_port) == ("pump-7", 10, 604800, 8125)
    assert [(probe.name, probe.interval) for probe in config.probes] == [("pressure", 60), ("battery", 10)]
