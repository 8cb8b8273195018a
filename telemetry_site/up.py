"""`manage.py up`: run the whole site on this machine, with a new or an existing data folder.

This process does not load Django (see manage.py), so that the supervisor uses little memory.
"""

import errno
import os
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException

from ingest.agents.site_key import public_key
from telemetry_site import settings, site_account
from telemetry_site.embedded import orphan_processes, site_processes
from telemetry_site.embedded.child_process import last_lines
from telemetry_site.embedded.data_folder import lock_data_folder
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.embedded.postgres import CannotStart
from telemetry_site.embedded.server_binaries import MissingBinary
from telemetry_site.embedded.servers import START_TIMEOUT, embedded_servers
from telemetry_site.embedded.site_processes import Runtime
from telemetry_site.embedded.supervisor import StopRequested, Supervisor
from telemetry_site.embedded.terminal_output import TerminalOutput
from telemetry_site.env import InvalidSetting

# Seconds of the stop timeout that remain for the processes stopped later: web stops first, the database last.
WEB_RESERVE, WORKER_RESERVE, VALKEY_RESERVE, POSTGRES_RESERVE = 3.7, 2.2, 1.7, 0.5
WEB_START_TIMEOUT = 60.0  # seconds
LISTEN_BACKLOG = 2048  # connections
INVALID_SETTING_EXIT_CODE = 2
WEB, WORKER, BEAT = ROLES = ("web", "worker", "beat")
SHARED_SETTINGS = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")  # of all machines of a site


class UnusableServer(Exception):
    """The server of DATABASE_URL or REDIS_URL cannot be used; the message is one line."""


def main(arguments: Sequence[str] = ()) -> int:
    """Run the site until a stop signal arrives; return the exit code."""
    output = TerminalOutput()
    data_folder: DataFolder = settings.EMBEDDED
    with ExitStack() as cleanup:
        try:
            roles = parse_roles(arguments)
            cleanup.enter_context(lock_data_folder(data_folder))
            orphan_processes.stop_site_processes(data_folder.path)
            listening = cleanup.enter_context(listen(settings.HOST, settings.PORT)) if WEB in roles else None
        except InvalidSetting as error:
            print(error, file=sys.stderr)
            return INVALID_SETTING_EXIT_CODE
        supervisor = Supervisor(output.event)
        cleanup.callback(orphan_processes.stop_site_processes, data_folder.path, 0)
        try:
            start(supervisor, output, data_folder, roles, listening)
            supervisor.run()
            return 0
        except StopRequested:
            return 0
        except (InvalidSetting, UnusableServer) as error:
            print(error, file=sys.stderr)
            return INVALID_SETTING_EXIT_CODE
        except (CannotStart, MissingBinary, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            if supervisor.signals:
                output.event("stopping the site")
            if listening is not None:
                listening.close()
            supervisor.stop()


def parse_roles(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the roles of `--only web,worker,beat`, by default all. Raises InvalidSetting."""
    parser = ArgumentParser("manage.py up", description="Run the site.")
    parser.add_argument("--only", metavar="ROLES", help=f"some of {','.join(ROLES)}: the others run on other machines")
    only = parser.parse_args(arguments).only
    if only is None:
        return ROLES
    roles = tuple(role.strip() for role in only.split(","))
    if not set(roles) <= set(ROLES):
        raise InvalidSetting("--only", only, f"a list of {', '.join(ROLES)} is accepted, such as web,beat")
    missing = [name for name in SHARED_SETTINGS if not settings.env.text(name)]
    if missing:
        raise InvalidSetting(
            "--only", only, f"{', '.join(missing)} must be set, each to the same value on all machines"
        )
    return roles


def start(
    supervisor: Supervisor,
    output: TerminalOutput,
    data_folder: DataFolder,
    roles: Collection[str],
    listening: socket.socket | None,
) -> None:
    output.line("Starting the telemetry site\n")
    password_is_new = not data_folder.admin_password_file.exists()
    start_servers(supervisor, output, data_folder)
    environment = {
        **os.environ,
        orphan_processes.SUPERVISED_VARIABLE: str(data_folder.path),
        "TELEMETRY_DATA_DIR": str(data_folder.path),
    }
    runtime = Runtime(data_folder, environment)
    provision(supervisor, runtime)
    output.step("Ready: database migrated, admin and keys created")
    runtime = site_account.without_root(runtime, output.line)
    logs = data_folder.log(WEB).parent
    if listening is not None:
        start_web(supervisor, runtime, listening)
    # Started after the web process, so that on a small machine they do not delay it.
    others = [role for role in (WORKER, BEAT) if role in roles]
    start_background(supervisor, runtime, others)
    output.step("; ".join([*["Ready: web"] * (WEB in roles), *(f"{role} is starting" for role in others)]))
    if listening is not None:
        output.ready(site_url(), password_line(data_folder, password_is_new), api_key(data_folder))
    output.running(logs)


def start_servers(supervisor: Supervisor, output: TerminalOutput, data_folder: DataFolder) -> None:
    servers = embedded_servers(data_folder, postgres=not settings.DATABASE_URL, valkey=not settings.OWN_REDIS_URL)
    for server in servers:
        supervisor.add(server, POSTGRES_RESERVE if server.name == "PostgreSQL" else VALKEY_RESERVE)
    for server in servers:
        supervisor.wait_until_ready(server.ready, server, START_TIMEOUT, server.name)
    if servers:
        output.step(f"Ready: {' and '.join(sorted(server.name for server in servers))}")


def provision(supervisor: Supervisor, runtime: Runtime) -> None:
    """Migrate the database and create admin and keys, in a separate process.

    Raises UnusableServer if a configured server cannot be reached; CannotStart for other failures.
    """
    provisioning = site_processes.provisioning(runtime)
    provisioning.log.unlink(missing_ok=True)
    provisioning.start()
    process = provisioning.process
    assert process is not None
    try:
        while process.poll() is None:
            supervisor.raise_if_stopped()
            supervisor.wait(0.5)
    finally:
        process.kill()
        process.wait()
    if process.returncode == INVALID_SETTING_EXIT_CODE:
        raise UnusableServer(last_lines(provisioning.log, 1)[0])
    if process.returncode != 0:
        lines = "".join(f"\n    {line}" for line in last_lines(provisioning.log))
        raise CannotStart(f"the database cannot be migrated (see {provisioning.log}):{lines}")


def start_web(supervisor: Supervisor, runtime: Runtime, listening: socket.socket) -> None:
    web = site_processes.web(runtime, listening.fileno(), settings.BEHIND_PROXY)
    supervisor.add(web, WEB_RESERVE)
    supervisor.wait_until_ready(web_answers, web, WEB_START_TIMEOUT, "the web process")
    if settings.HOST_COLLECTOR:
        key = public_key(settings.SECRET_KEY)
        supervisor.add(site_processes.host_collector(runtime, site_url(), key), WEB_RESERVE)


def start_background(supervisor: Supervisor, runtime: Runtime, roles: Collection[str]) -> None:
    if WORKER in roles:
        supervisor.add(site_processes.worker(runtime), WORKER_RESERVE)
    if BEAT in roles:
        supervisor.add(site_processes.beat(runtime), WEB_RESERVE)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`. Raises InvalidSetting."""
    family, kind, protocol, _, socket_address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit TCP_NODELAY. uvicorn does not set it on a socket that it gets as a descriptor; without it the
    # second write of a response waits 40 ms for the delayed acknowledgement of the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind(socket_address)
        listening.listen(LISTEN_BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise InvalidSetting("TELEMETRY_HOST", host, "an IP address of this machine is required") from None
        raise InvalidSetting(
            "TELEMETRY_PORT", str(port), f"a free port from 1 to 65535 is required ({error.strerror})"
        ) from None
    return listening


def reachable_host() -> str:
    """Return the address by which this machine can connect to TELEMETRY_HOST."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)  # noqa: S104


def site_url() -> str:
    """Return the site's URL on this machine."""
    host = reachable_host()
    return f"http://[{host}]:{settings.PORT}" if ":" in host else f"http://{host}:{settings.PORT}"


def web_answers() -> bool:
    """Return whether the web process answers, also while the disk of the database is full.

    With TELEMETRY_HTTPS or TELEMETRY_ALLOWED_HOSTS it redirects or rejects this request without the proxy's headers.
    """
    connection = HTTPConnection(reachable_host(), settings.PORT, timeout=0.5)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status < 500
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def password_line(data_folder: DataFolder, is_new: bool) -> str:
    """Return the admin password, or where it is stored."""
    if settings.ADMIN_PASSWORD:
        return "from TELEMETRY_ADMIN_PASSWORD at the first start"
    if not data_folder.admin_password_file.exists():
        return "unchanged"
    if is_new:
        return f"{data_folder.admin_password_file.read_text().strip()} (stored in {data_folder.admin_password_file})"
    return f"stored in {data_folder.admin_password_file}"


def api_key(data_folder: DataFolder) -> str:
    """Return the admin API key, or an empty text if another machine of this site has created it."""
    if settings.PROVISIONED_API_KEY or not data_folder.api_key_file.exists():
        return settings.PROVISIONED_API_KEY
    return data_folder.api_key_file.read_text().strip()
