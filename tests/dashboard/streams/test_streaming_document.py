"""docs/integrate/streaming.md: its examples run, and its lists equal the definitions in the code."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from dashboard.streams import close_codes, frames, open_sessions, socket_writer, websocket
from dashboard.streams.close_codes import CloseReason
from metrics.streams import gaps
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import open_page
from tests.dashboard.streams.streaming_examples import DOCUMENT, Example, Proxy, PythonClient, write_examples
from tests.telemetry_site.site_process import free_port, wait_until


def send(admin: ApiClient, value: float) -> None:
    answer = admin.post("devices/demo/telemetry", point("temperature", value))
    assert answer.status == 200, answer.raw


@contextmanager
def stopped_at_the_end(example: Example, proxy: Proxy) -> Iterator[None]:
    try:
        yield
    finally:
        example.stop()
        proxy.stop()


@pytest.mark.slow
def test_python_client_prints_every_value_also_those_of_an_interruption(admin: ApiClient, tmp_path: Path) -> None:
    proxy = Proxy(admin.port)
    client = PythonClient(tmp_path, proxy.url, admin.headers["X-Api-Key"])
    with stopped_at_the_end(client, proxy):

        def printed() -> list[float]:
            return [value["value"] for value in client.objects()]

        send(admin, 1)
        wait_until(lambda: printed() == [1], 20, f"the first value is printed: {client.lines}")
        proxy.cut()
        for value in (2, 3, 4):
            send(admin, value)
        proxy.mend()
        wait_until(lambda: printed() == [1, 2, 3, 4], 20, f"the missed values are printed: {client.lines}")
        send(admin, 5)
        wait_until(lambda: printed() == [1, 2, 3, 4, 5], 20, f"the stream goes on: {client.lines}")


@pytest.mark.slow
def test_shell_script_prints_every_value_also_those_of_an_interruption(admin: ApiClient, tmp_path: Path) -> None:
    proxy = Proxy(admin.port)
    write_examples(tmp_path, "stream.sh")
    script = Example(tmp_path, ["bash", "stream.sh"], URL=proxy.url, KEY=admin.headers["X-Api-Key"])
    with stopped_at_the_end(script, proxy):

        def printed() -> list[float]:
            return [value["value"] for frame in script.objects() for value in frame.get("values", [])]

        wait_until(lambda: script.objects(), 20, f"the snapshot is printed: {script.lines}")
        send(admin, 1)
        wait_until(lambda: printed() == [1], 20, f"the first value is printed: {script.lines}")
        proxy.cut()
        for value in (2, 3, 4):
            send(admin, value)
        proxy.mend()
        wait_until(lambda: printed() == [1, 2, 3, 4], 20, f"the missed values are printed: {script.lines}")


@pytest.mark.slow
def test_page_of_another_site_shows_new_values_and_resumes(admin: ApiClient, browser: Browser, tmp_path: Path) -> None:
    proxy, port = Proxy(admin.port), free_port()
    write_examples(tmp_path, "server.py", "page.html")
    variables = {"URL": proxy.url, "KEY": admin.headers["X-Api-Key"], "PORT": str(port)}
    server = Example(tmp_path, [sys.executable, "server.py"], **variables)
    with stopped_at_the_end(server, proxy):
        send(admin, 1)
        wait_until(lambda: _accepts(port), 20, f"the server of the page answers: {server.lines}")
        page = open_page(browser, port)
        page.open("/")
        shown, status = "document.body.innerText", "document.getElementById('status').textContent"
        page.wait_until(f"{shown}.includes('demo temperature 1') && {status} === 'Live'")
        send(admin, 2)
        page.wait_until(f"{shown}.includes('demo temperature 2')")
        proxy.cut()
        send(admin, 3)
        page.wait_until(f"{status} === 'Reconnecting…'")
        proxy.mend()
        page.wait_until(f"{shown}.includes('demo temperature 3') && {status} === 'Live'")


def _accepts(port: int) -> bool:
    try:
        return ApiClient(port, {}).get("/").status == 200
    except OSError:
        return False


def _table(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table below a heading by their first cell, without backticks."""
    section = DOCUMENT.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section, re.M)]
    return {row[0].strip("`"): row[1:] for row in rows[2:]}


def test_document_lists_every_close_code_and_whether_to_connect_again() -> None:
    reasons = [reason for reason in vars(close_codes).values() if isinstance(reason, CloseReason)]
    documented = _table("Close codes")
    assert {str(reason.code) for reason in reasons} == documented.keys()
    for reason in reasons:
        again = documented[str(reason.code)][1]
        assert reason.retry == again.startswith(("yes", "after")), reason


def test_document_lists_every_type_of_frame() -> None:
    source = Path(str(frames.__file__)).read_text() + Path(str(gaps.__file__)).with_name("encoding.py").read_text()
    types = set(re.findall(r'tag="(\w+)"', source)) | set(re.findall(r'"type": "(\w+)"', source))
    assert types == _table("Frames").keys()


def test_document_has_the_limits_of_the_code() -> None:
    documented = {name: cells[0] for name, cells in _table("Limits").items()}
    limits = {
        "streams of a caller": f"{open_sessions.MAX_STREAMS}",
        "values in a frame": f"{frames.MAX_VALUES:,}",
        "message of a client": f"{websocket.MAX_MESSAGE_SIZE // 1024} KiB",
        "messages of a client": f"{websocket.MAX_MESSAGES} in {websocket.MESSAGE_PERIOD:.0f} seconds",
        "events that wait for a slow client": f"{socket_writer.MAX_EVENTS:,}, then `resync`",
        "time in which a client must take a frame": f"{socket_writer.SEND_TIMEOUT:.0f} s",
        "time in which a client must take everything that waits": f"{socket_writer.MAX_DRAIN_TIME:.0f} s",
        "points of a gap": f"{gaps.MAX_POINTS:,}",
    }
    assert documented.items() >= limits.items()
