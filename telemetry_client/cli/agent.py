"""`telemetry agent`: the edge agent of this machine."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from telemetry_client.cli.options import open_site, site_command, warn
from telemetry_client.cli.output import emit, write
from telemetry_client.errors import ClientError, InvalidInput, NothingFound, NotTheSite, Refused
from telemetry_client.site import Site

UNIT = "telemetry-agent.service"
_FOLDER = "telemetry-agent"


def _places(is_root: bool) -> tuple[Path, Path]:
    """Return the program and the configuration of the system's agent or of the user's."""
    if is_root:
        return Path("/usr/local/lib") / _FOLDER / "agent.pyz", Path("/etc") / _FOLDER / "agent.ini"
    home = Path.home()
    return home / ".local/lib" / _FOLDER / "agent.pyz", home / ".config" / _FOLDER / "agent.ini"


def _installed() -> tuple[Path, Path, bool]:
    """Return program, configuration, and whether it is the user's agent. Raises NothingFound."""
    for is_root in (True,) if os.geteuid() == 0 else (False, True):
        program, config = _places(is_root)
        if program.exists():
            return program, config, not is_root
    raise NothingFound("no agent is installed on this machine: run telemetry agent install")


def _run(command: Sequence[str], text: str | None = None) -> None:
    """Run a command whose output is that of this one; end with its exit code if it fails."""
    sys.stdout.flush()
    code = subprocess.run(command, input=text, text=True, check=False).returncode
    if code:
        _end(code)


def _end(code: int) -> NoReturn:
    raise click.exceptions.Exit(code if code > 0 else 128 - code)


@click.group()
def agent() -> None:
    """Install and inspect the edge agent of this machine.

    As root it is a service of the system, else of the user.
    """


@agent.command()
@click.option("--node-id", default="", help="Device ID of this machine; default: the host name.")
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with an API key of scope ingest; default: create one bound to the device.",
)
@site_command
def install(node_id: str, key_file: Path | None) -> None:
    """Install or update the agent from the site.

    Without --key-file, the credential of the site must be of an admin, and a key for this device is created.
    """  # fmt: skip
    site = open_site()
    node_id = node_id or socket.gethostname()
    offer = site.get("/agent.json")
    if not isinstance(offer, dict) or not {"sha256", "site_key", "version"} <= offer.keys():
        raise NotTheSite(f"{site.url} does not offer an agent: /agent.json has no checksum")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "agent.pyz"
        program.write_bytes(b"".join(site.download("/agent.pyz")))
        if hashlib.sha256(program.read_bytes()).hexdigest() != offer["sha256"]:
            raise ClientError(f"{site.url}/agent.pyz does not have the checksum of /agent.json: try again")
        key = key_file.read_text(encoding="utf-8").strip() if key_file else _create_key(site, node_id)
        python = getattr(sys, "_base_executable", None) or sys.executable  # not that of a virtual environment
        names = ["--url", site.url, "--node-id", node_id, "--site-key", offer["site_key"]]
        _run([python, str(program), "install", *names, "--key-stdin"], key + "\n")
    emit({"device": node_id, "version": offer["version"]}, f"agent {offer['version']} measures {node_id}")


def _create_key(site: Site, node_id: str) -> str:
    """Return the text of a new key for the device, which is created if needed."""
    try:
        site.post("devices", {"device_id": node_id})
    except Refused as error:
        if not any(refused.get("field") == "device_id" for refused in error.errors):
            raise
    key = site.post("keys", {"name": f"agent of {node_id}", "scope": "ingest", "device_id": node_id})
    return str(key["key"])


@agent.command()
@click.option("--keep-data", is_flag=True, help="Keep configuration, key and queue.")
@click.option("--discard", is_flag=True, help="Delete snapshots that were not sent, too.")
@site_command
def uninstall(keep_data: bool, discard: bool) -> None:
    """Remove the agent. Snapshots that were not sent are kept."""
    program, _, _ = _installed()
    options = ["--keep-data"] * keep_data + ["--discard"] * discard
    with tempfile.TemporaryDirectory() as folder:  # it deletes its own file
        copy = shutil.copy(program, folder)
        _run([sys.executable, copy, "uninstall", *options])


@agent.command()
@site_command
def status() -> None:
    """Show the version, the queue and the counters of the agent."""
    program, config, _ = _installed()
    _run([sys.executable, str(program), "status", "--config", str(config)])


@agent.command()
@click.option("--lines", "-n", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Newest lines.")
@click.option("--follow", "-f", is_flag=True, help="Show new lines as they appear.")
@site_command
def logs(lines: int, follow: bool) -> None:
    """Show the log of the agent, which systemd keeps."""
    _, _, is_of_user = _installed()
    if shutil.which("journalctl") is None:
        raise InvalidInput("journalctl is missing: this machine does not keep the log of services with systemd")
    unit = ["--user-unit", UNIT] if is_of_user else ["--unit", UNIT]
    _run(["journalctl", *unit, "--lines", str(lines), "--no-pager", *["--follow"] * follow])


@agent.command()
@click.option("--path", "only_path", is_flag=True, help="Print the path of the file.")
@site_command
def config(only_path: bool) -> None:
    """Print the agent's own configuration; the site may set interval and probes in addition."""
    _, file, _ = _installed()
    if only_path:
        write(f"{file}\n")
        return
    try:
        write(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from None
    if not os.access(file, os.W_OK):
        warn("sudo is needed to change it")
