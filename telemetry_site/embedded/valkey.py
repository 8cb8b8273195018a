"""The embedded Valkey: one unix socket, persisted in an append-only file."""

import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from telemetry_site.embedded import orphan_processes
from telemetry_site.embedded.child_process import StopPolicy, server_environment, spawn
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.embedded.server_account import ServerAccount
from telemetry_site.embedded.server_binaries import ServerBinaries

MAXMEMORY = "128mb"


@dataclass
class Valkey:
    """Valkey in one data folder."""

    data_folder: DataFolder
    binaries: ServerBinaries
    account: ServerAccount
    process: subprocess.Popen[bytes] | None = None

    name = "Valkey"
    stop_policy = StopPolicy()

    @property
    def log(self) -> Path:
        return self.data_folder.log("valkey")

    def start(self) -> None:
        folder = self.data_folder.valkey_dir
        self.account.take_ownership(folder)
        orphan_processes.stop_servers(folder, signal.SIGTERM, timeout=10)
        self.data_folder.valkey_socket.unlink(missing_ok=True)
        with self.account.open_folders(folder, self.data_folder.run_dir) as ((data, sockets), descriptors):
            command: list[str | Path] = [
                *(self.binaries.valkey, "--port", "0", "--dir", data),
                *("--unixsocket", f"{sockets}/{self.data_folder.valkey_socket.name}", "--unixsocketperm", "700"),
                *("--appendonly", "yes", "--save", "", "--auto-aof-rewrite-min-size", "16mb"),
                *("--maxmemory", MAXMEMORY, "--maxmemory-policy", "noeviction"),
            ]
            self.process = spawn(
                command,
                self.log,
                account=self.account,
                environment=server_environment(),
                folder=folder,
                pass_fds=descriptors,
            )

    def ready(self) -> bool:
        """Return whether Valkey answers PING; while it loads its file it answers LOADING."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self.data_folder.valkey_socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False
