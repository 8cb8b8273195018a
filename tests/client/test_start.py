"""`telemetry start` runs the site of the checkout."""

import json
import signal
import sys
from pathlib import Path

import psutil
import pytest
from websockets.sync.client import connect

from tests.telemetry_site.site_process import Site, free_port, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("with_websocket_port", [True, False])
def test_site_runs_on_the_ports_and_ends_with_the_command(tmp_path: Path, with_websocket_port: bool) -> None:
    http_port, websocket_port = free_port(), free_port()
    (tmp_path / "config.json").write_text(
        json.dumps({"websocket_port": websocket_port, "enable_websocket": with_websocket_port})
    )
    options = ("--http-port", str(http_port), "--config", str(tmp_path / "config.json"))
    site = Site(tmp_path / "var", command=(sys.executable, "-m", "telemetry_client", "start", *options))
    site.port = http_port
    site.start()
    assert site.process is not None
    try:
        assert site.request("GET", "/devices")[0] == 200
        if with_websocket_port:
            uri = f"ws://localhost:{websocket_port}"
            wait_until(lambda: uri in site.read_output(), 20, "the WebSocket port is open")
            with connect(uri) as socket:
                socket.send(json.dumps({"type": "subscribe", "channels": ["alerts"]}))
                assert json.loads(socket.recv(timeout=10))["type"] == "subscribed"
        processes = site.processes()
    finally:
        site.process.send_signal(signal.SIGTERM)
        code = site.process.wait(timeout=30)
    assert code == 0
    assert [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
