"""The embedded Valkey: queues and wake-ups on one unix socket, kept in an append-only file."""

import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from telemetry_site.embedded import leftovers
from telemetry_site.embedded.account import Account
from telemetry_site.embedded.binaries import Binaries
from telemetry_site.embedded.paths import Embedded
from telemetry_site.embedded.processes import Ending, server_environment, spawn

MAXMEMORY = "128mb"


@dataclass
class Valkey:
    """Valkey under one data folder."""

    place: Embedded
    binaries: Binaries
    account: Account
    process: subprocess.Popen[bytes] | None = None

    name = "Valkey"
    ending = Ending()

    @property
    def log(self) -> Path:
        return self.place.log("valkey")

    def start(self) -> None:
        folder = self.place.valkey_dir
        self.account.own(folder)
        leftovers.stop_servers(folder, signal.SIGTERM, patience=10)
        self.place.valkey_socket.unlink(missing_ok=True)
        with self.account.reaching(folder, self.place.run_dir) as ((data, sockets), descriptors):
            command: list[str | Path] = [
                *(self.binaries.valkey, "--port", "0", "--dir", data),
                *("--unixsocket", f"{sockets}/{self.place.valkey_socket.name}", "--unixsocketperm", "700"),
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
        """Whether it answers a PING; while it reads its file it answers LOADING."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self.place.valkey_socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False
