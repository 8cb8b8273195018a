"""The embedded PostgreSQL: one data folder, one unix socket, no TCP."""

import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from telemetry_site.embedded import orphan_processes
from telemetry_site.embedded.child_process import StopPolicy, last_lines, server_environment, spawn
from telemetry_site.embedded.paths import DATABASE_NAME, DATABASE_USER, POSTGRES_PORT, DataFolder
from telemetry_site.embedded.server_account import ServerAccount
from telemetry_site.embedded.server_binaries import ServerBinaries

MAJOR_VERSION = "18"
STATUS_LINE = 7  # line of postmaster.pid with the server's state
POSTGRESQL_CONF = """\
# Rewritten at each start. Change settings with ALTER SYSTEM as role postgres; those are kept.
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
PG_HBA_CONF = """\
# Rewritten at each start: only the accounts of this installation can connect, by unix socket.
local all all peer map=owner
"""


class CannotStart(Exception):
    """A process cannot be started; the message is one line."""


@dataclass
class PostgreSQL:
    """PostgreSQL 18 in one data folder."""

    data_folder: DataFolder
    binaries: ServerBinaries
    account: ServerAccount
    durable: bool = True
    process: subprocess.Popen[bytes] | None = None

    name = "PostgreSQL"
    # SIGINT is the fast shutdown; SIGQUIT the immediate shutdown, after which the next start runs crash recovery.
    stop_policy = StopPolicy(signal.SIGINT, signal.SIGQUIT)

    @property
    def log(self) -> Path:
        return self.data_folder.log("postgres")

    def start(self) -> None:
        folder = self.data_folder.postgres_dir
        if folder.exists():
            orphan_processes.stop_servers(folder, signal.SIGINT, timeout=60)
        self._check_version()
        if not (folder / "PG_VERSION").exists():
            self._create_cluster()
        self.account.take_ownership(folder)
        self._configure(folder)
        with self.account.open_folders(folder, self.data_folder.run_dir) as ((data, sockets), descriptors):
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
        """Return whether postmaster.pid reports `ready`, as pg_ctl checks it."""
        if self.process is None:
            return False
        try:
            lines = (self.data_folder.postgres_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        if len(lines) <= STATUS_LINE or lines[0] != str(self.process.pid):
            return False
        return lines[STATUS_LINE].strip() == "ready"

    def _check_version(self) -> None:
        try:
            version = (self.data_folder.postgres_dir / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return
        if version != MAJOR_VERSION:
            raise CannotStart(
                f"{self.data_folder.postgres_dir} was created by PostgreSQL {version}; this is {MAJOR_VERSION}"
            )

    def _create_cluster(self) -> None:
        """Create the cluster in a temporary folder and rename it when complete: a kill leaves no partial cluster."""
        temporary = self.data_folder.path / "postgres.new"
        if temporary.exists():
            orphan_processes.stop_servers(temporary, signal.SIGKILL, timeout=1)
            shutil.rmtree(temporary)
        self.account.take_ownership(temporary)
        with self.account.open_folders(temporary) as ((data,), descriptors):
            initdb: list[str | Path] = [
                *(self.binaries.initdb, "-D", data, "-U", "postgres", "--no-instructions"),
                *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *("--auth-local=peer", "--auth-host=scram-sha-256"),
            ]
            self._run(initdb, temporary, descriptors)
            self._configure(temporary)
            self._run(
                [self.binaries.postgres, "--single", "-D", data, "template1"],
                temporary,
                descriptors,
                f"CREATE ROLE {DATABASE_USER} LOGIN CREATEDB IN ROLE pg_monitor, pg_checkpoint;\n"
                f"CREATE DATABASE {DATABASE_NAME} OWNER {DATABASE_USER};\n",
            )
        if self.data_folder.postgres_dir.exists():
            self.data_folder.postgres_dir.rmdir()
        temporary.rename(self.data_folder.postgres_dir)

    def _run(self, command: list[str | Path], folder: Path, descriptors: tuple[int, ...], text: str = "") -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            completed = subprocess.run(
                [str(part) for part in command],
                input=text.encode(),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=server_environment(),
                pass_fds=descriptors,
                **self.account.popen_arguments(),
            )
        if completed.returncode != 0:
            raise CannotStart(
                f"the PostgreSQL cluster cannot be created: {' '.join(last_lines(self.log, 2))} (see {self.log})"
            )

    def _configure(self, folder: Path) -> None:
        """Write the configuration files and remove stale lock files.

        The caller holds the data folder's lock and has stopped every server in it. PostgreSQL itself would trust a
        lock file whose process ID has since been reused by another process.
        """
        logins = [(pwd.getpwuid(os.geteuid()).pw_name, role) for role in ("postgres", DATABASE_USER)]
        if self.account.is_another_user:  # it runs the site's processes, too, and owns the files of the database
            logins.append((self.account.name, DATABASE_USER))
        identity_map = "".join(f'owner "{name}" {role}\n' for name, role in logins)
        texts = {
            "postgresql.conf": POSTGRESQL_CONF.format(durable="on" if self.durable else "off"),
            "pg_hba.conf": PG_HBA_CONF,
            "pg_ident.conf": identity_map,
        }
        for name, text in texts.items():
            self.account.write_file(folder / name, text)
        (folder / "postmaster.pid").unlink(missing_ok=True)
        for suffix in ("", ".lock"):
            (self.data_folder.run_dir / f".s.PGSQL.{POSTGRES_PORT}{suffix}").unlink(missing_ok=True)
