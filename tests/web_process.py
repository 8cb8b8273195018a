"""A second web process on the database of the tests."""

import contextlib
from collections.abc import Iterator

from django.db import connection

from tests.conftest import ApiClient
from tests.forked_process import ForkedProcess
from tests.telemetry_site.site_process import free_port, wait_until


def serve(port: int) -> None:
    """Run a web process until it is killed."""
    import uvicorn

    from telemetry_site.asgi import application
    from telemetry_site.http_protocol import HttpProtocol
    from telemetry_site.websocket_protocol import WebSocketProtocol

    uvicorn.run(application, port=port, http=HttpProtocol, ws=WebSocketProtocol, log_level="warning", lifespan="on")


@contextlib.contextmanager
def web_process(caller: ApiClient) -> Iterator[None]:
    """Run a web process on the port of a client, and kill it at the end."""
    parameters = connection.settings_dict
    database = {
        name: str(parameters[name]) for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT") if parameters.get(name)
    }
    running = ForkedProcess(database, serve, caller.port)
    try:
        wait_until(lambda: _is_up(caller), 30, "the web process responds")
        yield
    finally:
        running.kill()


@contextlib.contextmanager
def second_web_process(caller: ApiClient) -> Iterator[ApiClient]:
    """Start a web process; yields the same client there."""
    there = ApiClient(free_port(), caller.headers)
    with web_process(there):
        yield there


def _is_up(caller: ApiClient) -> bool:
    try:
        return caller.get("/health").status == 200
    except OSError:
        return False
