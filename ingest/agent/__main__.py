"""Command line of the agent: `python agent.pyz run | once | status | install | uninstall`."""

from __future__ import annotations

import argparse
import json
import logging
import sqlite3
import sys
import time
from pathlib import Path

from ingest.agent import VERSION
from ingest.agent.config import InvalidConfig, read_config
from ingest.agent.daemon import SETTLE_TIME
from ingest.agent.machine_clock import rfc3339
from ingest.agent.measure import HostMeasurement
from ingest.agent.process import AgentProcess
from ingest.agent.queue_repair import beside
from ingest.agent.queue_state import StateFile
from ingest.agent.service import InstallFailed, Layout, default_config, install, uninstall


def run(config_path: Path) -> int:
    """Run the agent until SIGTERM or SIGINT; return 1 if it ends by itself."""
    process = AgentProcess(config_path)
    process.stop_at_signals()
    return process.run()


def once(config_path: Path) -> int:
    """Print one snapshot without sending it."""
    node_id = read_config(config_path).node_id if config_path.exists() else "this-device"
    host = HostMeasurement()
    host.fields()
    time.sleep(SETTLE_TIME)
    print(json.dumps({"node_id": node_id, "timestamp": rfc3339(time.time()), **host.fields()}, indent=2))
    return 0


def status(config_path: Path) -> int:
    """Print the counters of the queue; return 1 if the agent has never run. Reads the copy beside the queue only."""
    config = read_config(config_path)
    state = StateFile(beside(config.queue_path, ".state")).read()
    if state is None:
        print(f"no queue at {config.queue_path}: the agent has not run", file=sys.stderr)
        return 1
    lines = {
        "version": VERSION,
        "site": config.url,
        "device": config.node_id,
        "queue": f"{state.pending} snapshots, {state.bytes} bytes",
        "sent": state.sent,
        "dropped": json.dumps(state.dropped) if state.dropped else 0,
        "values rejected": state.points_rejected,
        "salvaged, lost": f"{state.salvaged}, {state.lost}",
        "last activity": f"{rfc3339(state.wall)} ({max(0.0, time.time() - state.wall):.0f} s ago)",
    }
    for name, value in lines.items():
        print(f"{name:<16} {value}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent.pyz", description="Measure this device and send to a telemetry site.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "run in the foreground"),
        ("once", "print one snapshot"),
        ("status", "show the queue and its counters"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", type=Path, default=default_config(), help="default: %(default)s")
    installer = commands.add_parser("install", help="install or update the systemd service")
    installer.add_argument("--url", default="", help="URL of the site")
    installer.add_argument("--node-id", default="", help="device id; default: the host name")
    installer.add_argument("--site-key", default="", help="public key of the site, for its configuration and updates")
    installer.add_argument("--key-stdin", action="store_true", help="read the API key from standard input")
    remover = commands.add_parser("uninstall", help="remove the service, its configuration and its queue")
    remover.add_argument("--keep-data", action="store_true", help="keep configuration, key and queue")
    remover.add_argument("--discard", action="store_true", help="delete snapshots that were not sent, too")
    for command in (installer, remover):
        command.add_argument("--root", type=Path, default=Path("/"), help="write below this folder, without systemctl")
    return parser


def main() -> int:
    """Run a command; return the exit status. Invalid configuration and input is 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    arguments = _parser().parse_args()
    try:
        if arguments.command == "install":
            key = sys.stdin.readline().strip() if arguments.key_stdin else ""
            layout = Layout.of_process(arguments.root)
            install(layout, arguments.url, arguments.node_id, key, arguments.site_key)
            return 0
        if arguments.command == "uninstall":
            uninstall(Layout.of_process(arguments.root), arguments.keep_data, arguments.discard)
            return 0
        return {"run": run, "once": once, "status": status}[arguments.command](arguments.config)
    except (InvalidConfig, InstallFailed) as error:
        print(error, file=sys.stderr)
    except (OSError, ValueError, sqlite3.Error) as error:  # the key file, the queue's folder, the URL
        print(f"the agent cannot start: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
