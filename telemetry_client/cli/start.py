"""`telemetry start`: run the site of a checkout."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import click

from telemetry_client.cli.options import site_command, warn
from telemetry_client.errors import ClientError, InvalidInput

START_TIMEOUT = 120.0  # seconds
POLL = 0.5
DEFAULT_PORT = 8218
PORT = click.IntRange(1, 65_535)


@click.command()
@click.option("--http-port", type=PORT, envvar="TELEMETRY_HTTP_PORT", show_envvar=True, help="Port of the site [8218].")
@click.option(
    "--websocket-port",
    type=PORT,
    envvar="TELEMETRY_WEBSOCKET_PORT",
    show_envvar=True,
    help="Further port for WebSocket clients of this machine without a key; /ws/live of the site needs none.",
)
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Configuration file with these ports.")
@click.option("--checkout", type=click.Path(file_okay=False, path_type=Path), help="Folder with manage.py.")
@site_command
def start(http_port: int | None, websocket_port: int | None, config: Path | None, checkout: Path | None) -> None:
    """Start the site of a checkout, as `manage.py up` does, and run until it is stopped."""
    from telemetry_client.config import TelemetryConfig

    if config is not None:
        settings = TelemetryConfig.from_file(config)
        http_port = http_port or (settings.http_port if settings.enable_http else None)
        websocket_port = websocket_port or (settings.websocket_port if settings.enable_websocket else None)
    folder = find_checkout(checkout)
    python = folder / ".venv" / "bin" / "python"
    command = [str(python) if python.exists() else sys.executable, "manage.py", "up"]
    environment = dict(os.environ)
    if http_port:
        environment["TELEMETRY_PORT"] = str(http_port)
    port = int(environment.get("TELEMETRY_PORT") or DEFAULT_PORT)
    if websocket_port is None or websocket_port == port:
        os.chdir(folder)
        os.execve(command[0], command, environment)  # noqa: S606
    process = subprocess.Popen(command, cwd=folder, env=environment)
    signal.signal(signal.SIGTERM, lambda number, frame: _stop(process, number, frame))
    signal.signal(signal.SIGINT, lambda number, frame: _stop(process, number, frame))
    data = folder / environment.get("TELEMETRY_DATA_DIR", "var")
    try:
        code = _run(process, port, websocket_port, environment.get("TELEMETRY_API_KEY", ""), data / "api_key")
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
    raise click.exceptions.Exit(code)


def find_checkout(named: Path | None) -> Path:
    """Return the folder with manage.py: the named one, one around the current folder, or that of this package."""
    here = Path.cwd()
    folders = [named] if named is not None else [here, *here.parents, Path(__file__).resolve().parents[2]]
    for folder in folders:
        if (folder / "manage.py").is_file() and (folder / "telemetry_site").is_dir():
            return folder.resolve()
    raise InvalidInput(f"{named or here} is not a checkout of the site: name the folder with --checkout")


def _stop(process: subprocess.Popen[bytes], number: int, frame: FrameType | None) -> None:
    process.send_signal(number)


def _run(process: subprocess.Popen[bytes], port: int, websocket_port: int, key: str, key_file: Path) -> int:
    """Relay the WebSocket port while the site runs; return its exit code."""
    from telemetry_client.config import TelemetryConfig
    from telemetry_client.processor import TelemetryProcessor
    from telemetry_client.server import RealtimeTelemetryServer
    from telemetry_client.site import Site

    if not _wait_until_up(process, port):
        return process.wait()
    site = Site(f"http://127.0.0.1:{port}", key or key_file.read_text(encoding="utf-8").strip())
    settings = TelemetryConfig(websocket_port=websocket_port, enable_http=False, enable_dashboard=False)
    server = RealtimeTelemetryServer(TelemetryProcessor(settings, site), settings)
    try:
        server.start()
    except OSError as error:
        raise ClientError(f"the WebSocket port {websocket_port} cannot be opened: {error.strerror}") from None
    try:
        warn(f"WebSocket clients of this machine connect to ws://localhost:{websocket_port}")
        return process.wait()
    finally:
        server.stop()


def _wait_until_up(process: subprocess.Popen[bytes], port: int) -> bool:
    from telemetry_client.errors import Refused, Unreachable
    from telemetry_client.site import Site

    site = Site(f"http://127.0.0.1:{port}", timeout=2, patience=0)
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            site.get("/health")
        except (Unreachable, Refused):
            time.sleep(POLL)
        else:
            return True
    return False
