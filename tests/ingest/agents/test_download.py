"""The agent as the site serves it, and what the page of its device shows."""

import hashlib
import html
import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.agent import VERSION
from metrics.models import Device
from tests.conftest import ApiClient, point
from tests.telemetry_site.site_process import wait_until


def fetch(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=sent)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers, body


@pytest.fixture
def program(site: None, web_port: int, tmp_path: Path) -> Path:
    """The downloaded agent."""
    file = tmp_path / "agent.pyz"
    file.write_bytes(fetch(web_port, "/agent.pyz")[2])
    return file


def test_checksum_is_that_of_the_program_in_the_format_of_sha256sum(program: Path, web_port: int) -> None:
    status, _, text = fetch(web_port, "/agent.pyz.sha256")
    assert (status, text.decode()) == (200, f"{hashlib.sha256(program.read_bytes()).hexdigest()}  agent.pyz\n")
    checked = subprocess.run(["sha256sum", "-c"], input=text, cwd=program.parent, capture_output=True, check=False)
    assert checked.returncode == 0, checked


def test_unchanged_program_is_not_sent_again(program: Path, web_port: int) -> None:
    etag = fetch(web_port, "/agent.pyz", "HEAD")[1]["ETag"]
    status, _, body = fetch(web_port, "/agent.pyz", If_None_Match=etag)
    assert (status, body) == (304, b"")
    assert fetch(web_port, "/agent.pyz", "POST")[0] in (403, 405)


def test_program_runs(program: Path) -> None:
    shown = subprocess.run([sys.executable, program, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"{VERSION}\n"


@pytest.fixture
def running(program: Path, gateway: ApiClient) -> Iterator[subprocess.Popen[bytes]]:
    folder = program.parent
    (folder / "key").write_text(gateway.headers["X-Api-Key"])
    (folder / "agent.ini").write_text(
        f"[agent]\nurl = http://127.0.0.1:{gateway.port}\nnode_id = pump-7\nkey_file = {folder / 'key'}\n"
        f"interval = 1\nqueue_path = {folder / 'queue.db'}\nwebsocket_port = 0\nhttp_port = 0\nstatsd_port = 0\n"
    )
    process = subprocess.Popen([sys.executable, program, "run", "--config", folder / "agent.ini"])
    yield process
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


@pytest.mark.slow
def test_device_page_shows_the_agent(running: subprocess.Popen[bytes], administrator: ApiClient, web_port: int) -> None:
    def version() -> object:
        response = administrator.get("devices/pump-7/metrics/agent.version/latest")
        return response.json.get("value") if response.status == 200 else None

    assert wait_until(version, 20, "the agent has sent a snapshot") == VERSION
    page = fetch(web_port, "/devices/pump-7/", Cookie=administrator.headers["Cookie"])[2].decode()
    assert f'<a class="tag" id="agent" href="/agent/pump-7/">agent {VERSION}</a>' in page


def test_queue_and_drops_of_the_agent_are_in_words(gateway: ApiClient, administrator: ApiClient) -> None:
    values = {
        "agent.version": "1.0.0",
        "agent.queue.depth": 1250,
        "agent.queue.oldest_unsent_seconds": 185,
        "agent.queue.dropped": 3,
    }
    points = [point(name, value) for name, value in values.items()]
    assert gateway.post("devices/pump-7/telemetry/batch", {"data_points": points}).status == 200
    page = fetch(gateway.port, "/devices/pump-7/", Cookie=administrator.headers["Cookie"])[2].decode()
    text = html.unescape(page).replace("\N{NO-BREAK SPACE}", " ")
    assert "1,250 in its queue, the oldest for 3 min" in text and "3 dropped" in text


@pytest.mark.parametrize("device_id", ["pump-7", "it's; rm -rf ~", 'a $(reboot) `x` "y"'])
def test_command_of_the_page_quotes_the_device(administrator: ApiClient, device_id: str) -> None:
    from urllib.parse import quote

    Device.objects.create(device_id=device_id)
    path = f"/devices/{quote(device_id, safe='')}/"
    page = fetch(administrator.port, path, Cookie=administrator.headers["Cookie"])[2].decode()
    command = html.unescape(page.partition("--node-id ")[2].partition(" \\\n")[0])
    shown = subprocess.run(["sh", "-c", f"printf %s {command}"], capture_output=True, text=True, check=True)
    assert shown.stdout == device_id
