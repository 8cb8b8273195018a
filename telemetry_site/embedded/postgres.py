"""The embedded PostgreSQL: one data folder, one unix socket, no TCP."""

import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from telemetry_site.embedded import leftovers
from telemetry_site.embedded.account import Account
from telemetry_site.embedded.binaries import Binaries
from telemetry_site.embedded.paths import DATABASE_NAME, DATABASE_USER, POSTGRES_PORT, Embedded
from telemetry_site.embedded.processes import Ending, last_lines, server_environment, spawn

MAJOR_VERSION = "18"
STATUS_LINE = 7  # of postmaster.pid, where the server says whether it takes connections
CONFIGURATION = """\
# Written anew at each start. Change settings with ALTER SYSTEM, as role postgres: that is kept.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 100
fsync = {durable}
full_page_writes = {durable}
synchronous_commit = {durable}
shared_buffers = 64MB
dynamic_shared_memory_type = posix
wal_level = minimal
max_wal_senders = 0
max_logical_replication_workers = 0
min_wal_size = 256MB
max_wal_size = 1GB
checkpoint_timeout = 10min
io_method = sync
jit = off
autovacuum = on
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_size = 10MB
log_line_prefix = '%m [%p] '
log_timezone = 'UTC'
timezone = 'UTC'
lc_messages = 'C'
default_text_search_config = 'pg_catalog.english'
"""
HBA = """\
# Written anew at each start: the owner of this installation, by unix socket, and nobody else.
local all all peer map=owner
"""


class CannotStart(Exception):
    """A server cannot be started; the message is one line."""


@dataclass
class PostgreSQL:
    """PostgreSQL 18 under one data folder."""

    place: Embedded
    binaries: Binaries
    account: Account
    durable: bool = True
    process: subprocess.Popen[bytes] | None = None

    name = "PostgreSQL"
    # SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one, after which the next start recovers.
    ending = Ending(signal.SIGINT, signal.SIGQUIT)

    @property
    def log(self) -> Path:
        return self.place.log("postgres")

    def start(self) -> None:
        folder = self.place.postgres_dir
        if folder.exists():
            leftovers.stop_servers(folder, signal.SIGINT, patience=60)
        self._check_version()
        if not (folder / "PG_VERSION").exists():
            self._make()
        self.account.own(folder)
        self._configure(folder)
        with self.account.reaching(folder, self.place.run_dir) as ((data, sockets), descriptors):
            self.process = spawn(
                [self.binaries.postgres, "-D", data, "-k", sockets, "-p", str(POSTGRES_PORT)],
                self.log,
                account=self.account,
                environment=server_environment(),
                folder=folder,
                pass_fds=descriptors,
                death_signal=signal.SIGINT,
            )

    def ready(self) -> bool:
        """Whether the server says so itself, in the file where pg_ctl looks too."""
        if self.process is None:
            return False
        try:
            lines = (self.place.postgres_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        if len(lines) <= STATUS_LINE or lines[0] != str(self.process.pid):
            return False
        return lines[STATUS_LINE].strip() == "ready"

    def _check_version(self) -> None:
        try:
            version = (self.place.postgres_dir / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return
        if version != MAJOR_VERSION:
            raise CannotStart(f"{self.place.postgres_dir} was made by PostgreSQL {version}; this is {MAJOR_VERSION}")

    def _make(self) -> None:
        """Make the cluster beside its place and move it there when it is whole, so that a kill leaves no half."""
        making = self.place.data_dir / "postgres.new"
        if making.exists():
            leftovers.stop_servers(making, signal.SIGKILL, patience=1)
            shutil.rmtree(making)
        self.account.own(making)
        with self.account.reaching(making) as ((data,), descriptors):
            initdb: list[str | Path] = [
                *(self.binaries.initdb, "-D", data, "-U", "postgres", "--no-instructions"),
                *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *("--auth-local=peer", "--auth-host=scram-sha-256"),
            ]
            self._run(initdb, making, descriptors)
            self._configure(making)
            self._run(
                [self.binaries.postgres, "--single", "-D", data, "template1"],
                making,
                descriptors,
                f"CREATE ROLE {DATABASE_USER} LOGIN CREATEDB IN ROLE pg_monitor, pg_checkpoint;\n"
                f"CREATE DATABASE {DATABASE_NAME} OWNER {DATABASE_USER};\n",
            )
        if self.place.postgres_dir.exists():
            self.place.postgres_dir.rmdir()
        making.rename(self.place.postgres_dir)

    def _run(self, command: list[str | Path], folder: Path, descriptors: tuple[int, ...], text: str = "") -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            done = subprocess.run(
                [str(part) for part in command],
                input=text.encode(),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=server_environment(),
                pass_fds=descriptors,
                **self.account.popen(),
            )
        if done.returncode != 0:
            raise CannotStart(
                f"PostgreSQL's data folder cannot be made: {' '.join(last_lines(self.log, 2))} (see {self.log})"
            )

    def _configure(self, folder: Path) -> None:
        """Write the configuration, and remove the lock files of a server that is gone.

        The caller holds the data folder's lock and has made sure that no server works in it; PostgreSQL itself
        would believe a lock file whose number has been given to another process since.
        """
        here = pwd.getpwuid(os.geteuid()).pw_name
        mapped = "".join(f'owner "{here}" {role}\n' for role in ("postgres", DATABASE_USER))
        texts = {
            "postgresql.conf": CONFIGURATION.format(durable="on" if self.durable else "off"),
            "pg_hba.conf": HBA,
            "pg_ident.conf": mapped,
        }
        for name, text in texts.items():
            (folder / name).write_text(text)
            os.chown(folder / name, self.account.uid, self.account.gid)
        (folder / "postmaster.pid").unlink(missing_ok=True)
        for suffix in ("", ".lock"):
            (self.place.run_dir / f".s.PGSQL.{POSTGRES_PORT}{suffix}").unlink(missing_ok=True)
