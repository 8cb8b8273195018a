"""`manage.py up`: the whole site on this machine, from an empty folder or from what is kept there.

Runs without Django (see manage.py), so that the process that only watches the others stays small.
"""

import errno
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException

from telemetry_site import settings
from telemetry_site.embedded import leftovers, programs
from telemetry_site.embedded.binaries import MissingBinary
from telemetry_site.embedded.folder import locked
from telemetry_site.embedded.paths import Embedded
from telemetry_site.embedded.postgres import CannotStart
from telemetry_site.embedded.processes import last_lines
from telemetry_site.embedded.screen import Screen
from telemetry_site.embedded.servers import START_PATIENCE, embedded_servers
from telemetry_site.embedded.supervisor import Stopped, Supervisor
from telemetry_site.env import BadSetting

# Seconds of the stop that are left for those who stop later: the web first, the database last.
WEB, WORKER, VALKEY, POSTGRES = 3.7, 2.2, 1.7, 0.5
WEB_PATIENCE = 60.0
BAD_SETTING = 2


class BadServer(Exception):
    """DATABASE_URL or REDIS_URL names a server that cannot be used; the message is one line."""


def main() -> int:
    """Run the site until a signal; the exit code."""
    screen = Screen()
    place: Embedded = settings.EMBEDDED
    with ExitStack() as held:
        try:
            held.enter_context(locked(place))
            leftovers.stop_marked(place.data_dir)
            listening = held.enter_context(listen(settings.HOST, settings.PORT))
        except BadSetting as error:
            print(error, file=sys.stderr)
            return BAD_SETTING
        supervisor = Supervisor(screen.event)
        held.callback(leftovers.stop_marked, place.data_dir, 0)
        try:
            start(supervisor, screen, place, listening)
            supervisor.run()
            return 0
        except Stopped:
            return 0
        except (BadSetting, BadServer) as error:
            print(error, file=sys.stderr)
            return BAD_SETTING
        except (CannotStart, MissingBinary, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            if supervisor.signals:
                screen.event("stopping")
            listening.close()
            supervisor.stop()


def start(supervisor: Supervisor, screen: Screen, place: Embedded, listening: socket.socket) -> None:
    screen.say("Starting the telemetry site\n")
    fresh_password = not place.admin_password_file.exists()
    start_servers(supervisor, screen, place)
    environment = {**os.environ, leftovers.MARK: str(place.data_dir), "TELEMETRY_DATA_DIR": str(place.data_dir)}
    provision(supervisor, place, environment)
    screen.done("Database up to date, admin and keys in place")
    start_programs(supervisor, place, environment, listening)
    screen.done("Web answers, worker and beat are on their way")
    screen.ready(address(), password_line(place, fresh_password), key_line(place), place.log("web").parent)


def start_servers(supervisor: Supervisor, screen: Screen, place: Embedded) -> None:
    servers = embedded_servers(place, postgres=not settings.DATABASE_URL, valkey=not settings.OWN_REDIS_URL)
    for server in servers:
        supervisor.add(server, POSTGRES if server.name == "PostgreSQL" else VALKEY)
    for server in servers:
        supervisor.until(server.ready, [server], START_PATIENCE, server.name)
    if servers:
        screen.done(f"Ready: {' and '.join(sorted(server.name for server in servers))}")


def provision(supervisor: Supervisor, place: Embedded, environment: Mapping[str, str]) -> None:
    """Migrate and provision in a process of its own; it names a server that cannot be reached."""
    program = programs.provisioning(place, environment)
    program.log.unlink(missing_ok=True)
    program.start()
    process = program.process
    assert process is not None
    try:
        while process.poll() is None:
            supervisor.raise_if_stopped()
            supervisor.wait(0.5)
    finally:
        process.kill()
        process.wait()
    if process.returncode == BAD_SETTING:
        raise BadServer(last_lines(program.log, 1)[0])
    if process.returncode != 0:
        lines = "".join(f"\n    {line}" for line in last_lines(program.log))
        raise CannotStart(f"the database cannot be prepared (see {program.log}):{lines}")


def start_programs(
    supervisor: Supervisor, place: Embedded, environment: Mapping[str, str], listening: socket.socket
) -> None:
    web = programs.web(place, environment, listening.fileno(), settings.BEHIND_PROXY)
    supervisor.add(web, WEB)
    supervisor.until(healthy, [web], WEB_PATIENCE, "the web process")
    # Only now, so that on a small machine nothing competes with what somebody waits for.
    supervisor.add(programs.worker(place, environment), WORKER)
    supervisor.add(programs.beat(place, environment), WEB)
    if settings.HOST_COLLECTOR:
        supervisor.add(programs.host_collector(place, environment, address(), place.host_device_id()), WEB)


def listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. A server that is handed a descriptor does not know that it is TCP and leaves it out:
    # then an answer's second piece waits 40 ms for the delayed acknowledgement of its first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind(where)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise BadSetting("TELEMETRY_HOST", host, "an IP address of this machine is accepted") from None
        raise BadSetting(
            "TELEMETRY_PORT", str(port), f"a free port from 1 to 65535 is accepted ({error.strerror})"
        ) from None
    return listening


def reachable_host() -> str:
    """Where this machine reaches the site that listens on TELEMETRY_HOST."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)  # noqa: S104


def address() -> str:
    host = reachable_host()
    return f"http://[{host}]:{settings.PORT}" if ":" in host else f"http://{host}:{settings.PORT}"


def healthy() -> bool:
    connection = HTTPConnection(reachable_host(), settings.PORT, timeout=0.5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def password_line(place: Embedded, fresh: bool) -> str:
    if settings.ADMIN_PASSWORD:
        return "as TELEMETRY_ADMIN_PASSWORD said at the first start"
    if not place.admin_password_file.exists():
        return "as it was set before"
    if fresh:
        return f"{place.admin_password_file.read_text().strip()} (kept in {place.admin_password_file})"
    return f"kept in {place.admin_password_file}"


def key_line(place: Embedded) -> str:
    return settings.PROVISIONED_API_KEY or place.api_key_file.read_text().strip()
