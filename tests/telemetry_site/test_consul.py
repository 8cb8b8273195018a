"""Registration in Consul: with an agent, without one, and with one that fails in every way."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from telemetry_site import consul
from telemetry_site.consul import Agent, Registration, service_document
from telemetry_site.consul_address import AgentAddress, parse_token
from tests.telemetry_site.consul_agent import RealAgent, SmallAgent, running
from tests.telemetry_site.site_process import Site, free_port, wait_until

TOKEN = "a-token-of-the-test"
KEY = "a-key-of-the-consul-tests-0123456789"


@pytest.fixture
def agent() -> Iterator[SmallAgent]:
    with running(SmallAgent()) as agent:
        yield agent


@pytest.fixture(autouse=True)
def short_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"CHECK_PERIOD": 0.05, "RETRY_PERIOD": 0.05, "CALL_TIMEOUT": 0.5, "STOP_TIMEOUT": 0.5}.items():
        monkeypatch.setattr(consul, name, seconds)


def registration(address: str, token: str = "") -> Registration:
    parsed = AgentAddress.parse(address)
    assert parsed is not None
    return Registration(Agent(parsed, token))


@asynccontextmanager
async def kept(registered: Registration) -> AsyncIterator[None]:
    """Keep the registration as the web process does, and remove it at the end."""
    task = asyncio.create_task(registered.keep())
    try:
        yield
    finally:
        assert not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await registered.remove()


async def until(condition: Callable[[], Any], description: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"not within 10 s: {description}"
        await asyncio.sleep(0.01)


def test_process_registers_with_its_token_and_deregisters(agent: SmallAgent) -> None:
    async def run() -> None:
        registered = registration(agent.address, TOKEN)
        async with kept(registered):
            await until(lambda: agent.services, "the service is registered")
            [service] = agent.services.values()
            assert service["ID"] == f"telemetry-{socket.gethostname()}-{django_settings.PORT}"
            assert (service["Name"], service["Port"]) == ("telemetry", django_settings.PORT)
            assert service["Check"]["HTTP"] == f"http://127.0.0.1:{django_settings.PORT}/readyz"
            await until(lambda: agent.reads > 2, "the registration is read again and again")
        assert agent.services == {}
        assert agent.registrations == [service["ID"]]
        assert agent.tokens == {TOKEN}

    asyncio.run(run())


def test_processes_of_one_machine_have_registrations_of_their_own(agent: SmallAgent, settings: Any) -> None:
    async def run() -> None:
        settings.PORT = 8301
        first = registration(agent.address)
        settings.PORT = 8302
        second = registration(agent.address)
        async with kept(first):
            async with kept(second):
                await until(lambda: len(agent.services) == 2, "both are registered")
            assert list(agent.services) == [first.service_id]

    asyncio.run(run())


def test_registration_that_the_agent_lost_is_made_again(agent: SmallAgent) -> None:
    async def run() -> None:
        async with kept(registration(agent.address)):
            for _ in range(3):
                await until(lambda: agent.services, "the service is registered")
                agent.services.clear()

    asyncio.run(run())


def test_agent_that_is_restarted_without_its_data_gets_the_registration_again(agent: SmallAgent) -> None:
    async def run() -> None:
        async with kept(registration(agent.address)):
            await until(lambda: agent.services, "the service is registered")
            await asyncio.to_thread(agent.stop)
            agent.services.clear()
            agent.start()
            await until(lambda: agent.services, "the service is registered again")

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["failing", "garbage", "silent", "endless", "absent"])
def test_agent_that_fails_delays_the_registration_only(
    agent: SmallAgent, behaviour: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        if behaviour == "absent":
            await asyncio.to_thread(agent.stop)
        agent.behaviour = behaviour
        registered = registration(agent.address)
        async with kept(registered):
            await until(lambda: "attempts follow" in caplog.text, "the failure is logged")
            started = time.monotonic()
            await registered.remove()
            assert time.monotonic() - started < consul.STOP_TIMEOUT + 0.5
            assert agent.services == {}
            agent.behaviour = "normal"
            if behaviour == "absent":
                agent.start()
            await until(lambda: agent.services, "the service is registered")
        assert caplog.text.count("attempts follow") == 1, "a failure that lasts is logged once"
        assert "Traceback" not in caplog.text

    asyncio.run(run())


def test_agent_on_a_unix_socket_is_reached(tmp_path: Path) -> None:
    received = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append((await reader.readuntil(b"\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        path = tmp_path / "agent.sock"
        async with await asyncio.start_unix_server(serve, path), kept(registration(f"unix://{path}")):
            await until(lambda: len(received) > 1, "two calls arrived")
        assert received[0] == "PUT /v1/agent/service/register?replace-existing-checks=true HTTP/1.1\r\n"
        assert received[1].startswith("GET /v1/agent/service/telemetry-")
        assert received[-1].startswith("PUT /v1/agent/service/deregister/telemetry-")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("host", "local_address", "address", "checked"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("localhost", "10.0.0.5", "127.0.0.1", "127.0.0.1"),
        ("10.0.0.5", "127.0.0.1", "10.0.0.5", "10.0.0.5"),
        ("0.0.0.0", "127.0.0.1", None, "127.0.0.1"),
        ("0.0.0.0", "", None, "127.0.0.1"),
        ("0.0.0.0", "10.0.0.5", "10.0.0.5", "10.0.0.5"),
        ("::", "::1", None, "[::1]"),
        ("::", "fe80::5%eth0", "fe80::5%eth0", "[fe80::5%eth0]"),
        ("::", "fd00::5", "fd00::5", "[fd00::5]"),
    ],
)
def test_registered_address_is_the_one_that_others_can_reach(
    settings: Any, host: str, local_address: str, address: str | None, checked: str
) -> None:
    settings.HOST, settings.PORT = host, 8218
    document = service_document("telemetry-here-8218", local_address)
    assert document.get("Address") == address
    assert document["Check"]["HTTP"] == f"http://{checked}:8218/readyz"


def test_health_check_has_the_headers_that_the_proxy_sends(settings: Any) -> None:
    settings.ALLOWED_HOSTS = [".example.com", "other.example.org"]
    settings.HTTPS = settings.BEHIND_PROXY = True
    document = service_document("telemetry-here-8218", "127.0.0.1")
    assert document["Check"]["Header"] == {"Host": ["example.com"], "X-Forwarded-Proto": ["https"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8500", AgentAddress("127.0.0.1", 8500)),
        ("consul.internal:8500", AgentAddress("consul.internal", 8500)),
        ("http://127.0.0.1:8500/", AgentAddress("127.0.0.1", 8500)),
        ("http://consul", AgentAddress("consul", 80)),
        ("https://consul:8501", AgentAddress("consul", 8501, is_tls=True)),
        ("[::1]:8500", AgentAddress("::1", 8500)),
        ("unix:///run/consul.sock", AgentAddress("localhost", unix_path="/run/consul.sock")),
        ("", None),
    ],
)
def test_address_of_the_agent_is_read_as_consul_reads_it(text: str, expected: AgentAddress | None) -> None:
    assert AgentAddress.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "ftp://consul:8500",
        "consul:port",
        "http://",
        ":8500",
        "unix://relative",
        "http://a b:1",
        "http://c/v1",
        "c:99999",
    ],
)
def test_invalid_address_of_the_agent_is_rejected_with_the_accepted_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"an agent like 127\.0\.0\.1:8500"):
        AgentAddress.parse(text)


def test_token_that_no_header_can_carry_is_rejected() -> None:
    assert parse_token(TOKEN) == TOKEN
    with pytest.raises(ValueError, match="printable ASCII"):
        parse_token("token\r\nX-Other: 1")


AGENTS = [
    SmallAgent,
    pytest.param(RealAgent, marks=pytest.mark.skipif(not RealAgent.is_installed(), reason="consul is not on the PATH")),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", AGENTS)
def test_site_is_healthy_in_consul_while_it_runs(kind: Callable[..., Any], tmp_path: Path) -> None:
    with running(kind(tmp_path) if kind is RealAgent else kind()) as agent:
        site = Site(
            tmp_path / "site",
            variables={
                "CONSUL_HTTP_ADDR": agent.address,
                "TELEMETRY_API_KEY": KEY,
                "TELEMETRY_HOST_COLLECTOR": "off",
                "TELEMETRY_ALLOWED_HOSTS": "telemetry.example.com",
                "TELEMETRY_HTTPS": "on",
                "TELEMETRY_BEHIND_PROXY": "on",
            },
        )
        site.start()
        try:
            services = wait_until(agent.healthy_services, 30, "the site is healthy in Consul")
            [(service_id, service)] = services.items()
            assert (service_id, service["Port"]) == (f"telemetry-{socket.gethostname()}-{site.port}", site.port)
        finally:
            assert site.stop() == 0
        assert agent.healthy_services() == {}
        if isinstance(agent, SmallAgent):
            assert agent.services == {}, "deregistered, not only unhealthy"


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["silent", "garbage", "absent"])
def test_site_starts_answers_and_stops_beside_an_agent_that_fails(behaviour: str, tmp_path: Path) -> None:
    with running(SmallAgent()) as agent:
        agent.behaviour = behaviour
        address = f"127.0.0.1:{free_port()}" if behaviour == "absent" else agent.address
        variables = {"CONSUL_HTTP_ADDR": address, "TELEMETRY_API_KEY": KEY, "TELEMETRY_HOST_COLLECTOR": "off"}
        site = Site(tmp_path / "site", variables=variables)
        site.start()
        try:
            for _ in range(20):
                status, body = site.request("GET", "/devices", timeout=2)
                assert status == 200, body
        finally:
            started = time.monotonic()
            assert site.stop() == 0
        assert time.monotonic() - started < 10
