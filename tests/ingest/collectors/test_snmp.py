"""The SNMP collector against Debian's snmpd, and against servers that send noise."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.collectors.test_kinds import collect

pytestmark = [pytest.mark.usefixtures("local_targets"), pytest.mark.slow]

SNMPD = shutil.which("snmpd") or shutil.which("/usr/sbin/snmpd")
NAME, UPTIME, MISSING = "1.3.6.1.2.1.1.5.0", "1.3.6.1.2.1.1.3.0", "1.3.6.1.2.1.1.99.0"
INTERFACES = "1.3.6.1.2.1.2.2.1.2.*"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An snmpd with a community and users of version 3; yields its port."""
    if SNMPD is None:
        pytest.skip("snmpd is not installed")
    folder, port = tmp_path_factory.mktemp("snmpd"), free_port()
    (folder / "snmpd.conf").write_text(
        f"agentAddress udp:127.0.0.1:{port}\nrocommunity s3cret 127.0.0.1\nsysName test agent\n"
        "createUser ann SHA-256 authpassword AES privpassword\nrouser ann priv\n"
        "createUser ben SHA authpassword\nrouser ben auth\n"
    )
    command = [
        SNMPD,
        "-f",
        "-C",
        "-c",
        str(folder / "snmpd.conf"),
        "-p",
        str(folder / "pid"),
        "-Lf",
        str(folder / "log"),
    ]
    process = subprocess.Popen(command, env=os.environ | {"SNMP_PERSISTENT_DIR": str(folder)})
    try:
        wait_for_agent(port, process, folder)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def wait_for_agent(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    for _ in range(100):
        assert process.poll() is None, (folder / "log").read_text()
        if "NET-SNMP version" in (folder / "log").read_text() if (folder / "log").exists() else False:
            return
        time.sleep(0.05)
    raise AssertionError("snmpd did not start")


def snmp(port: int, **fields: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "oids": {"name": NAME, "uptime": UPTIME}} | fields


def test_version_2c_reads_values_and_subtrees(agent: int) -> None:
    configuration = snmp(agent, oids={"name": NAME, "uptime": UPTIME, "interface": INTERFACES})
    values, trial = collect("snmp", configuration, {"community": "s3cret"}, deadline=5)
    assert trial.error == "" and values["snmp.up"] == 1
    assert values["name"] == "test agent" and 0 <= values["uptime"] < 600
    assert values["interface.1"] == "lo"


@pytest.mark.parametrize(
    ("configuration", "secrets"),
    [
        (
            {"username": "ann", "auth_protocol": "sha256", "priv_protocol": "aes"},
            {"auth_key": "authpassword", "priv_key": "privpassword"},
        ),
        ({"username": "ben", "auth_protocol": "sha"}, {"auth_key": "authpassword"}),
    ],
)
def test_version_3_reads_values(agent: int, configuration: dict[str, Any], secrets: dict[str, str]) -> None:
    values, trial = collect("snmp", snmp(agent, version="3", **configuration), secrets, deadline=5)
    assert trial.error == "" and values["name"] == "test agent"


@pytest.mark.parametrize(
    ("configuration", "secrets", "error"),
    [
        ({}, {"community": "not-this"}, "agents do not answer a wrong community"),
        (
            {"version": "3", "username": "nobody", "auth_protocol": "sha"},
            {"auth_key": "authpassword"},
            "Unknown USM user",
        ),
        (
            {"version": "3", "username": "ben", "auth_protocol": "sha"},
            {"auth_key": "wrongpassword"},
            "Wrong SNMP PDU digest",
        ),
    ],
)
def test_wrong_credentials_are_a_clear_failure(
    agent: int, configuration: dict[str, Any], secrets: dict[str, str], error: str
) -> None:
    values, trial = collect("snmp", snmp(agent, **configuration), secrets, deadline=2)
    assert error.lower() in trial.error.lower() and values["snmp.up"] == 0


def test_missing_values_are_named_and_the_others_kept(agent: int) -> None:
    oids = {"name": NAME, "missing": MISSING, "below": "1.3.6.1.2.1.1.99.*"}
    values, trial = collect("snmp", snmp(agent, oids=oids), {"community": "s3cret"}, deadline=5)
    assert values["name"] == "test agent"
    assert f"missing: the agent has no value of {MISSING}" in trial.error
    assert "below: the agent has no values below 1.3.6.1.2.1.1.99.*" in trial.error


@contextmanager
def udp_server(reply: Callable[[bytes], list[bytes]]) -> Iterator[int]:
    """Answer each datagram with others; yield the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.1)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    data, sender = sock.recvfrom(65536)
                except TimeoutError:
                    continue
                for datagram in reply(data):
                    sock.sendto(datagram, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1]
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    "reply",
    [
        lambda data: [],
        lambda data: [b"\x00", b"\xff" * 1000, b"30\x82\xff\xff"],
        lambda data: [data],  # the request itself
        lambda data: [data[:-3], data[: len(data) // 2]],
        lambda data: [bytes(byte ^ 0x55 for byte in data)] * 50,
        lambda data: [b""] * 10,
    ],
    ids=["silence", "noise", "echo", "torn", "garbled", "empty"],
)
@pytest.mark.parametrize("version", ["2c", "3"])
def test_noise_is_a_clear_failure_within_the_deadline(reply: Any, version: str) -> None:
    configuration = {"version": version} | ({"username": "ann"} if version == "3" else {})
    with udp_server(reply) as port:
        values, trial = collect("snmp", snmp(port, **configuration), deadline=1)
    assert values["snmp.up"] == 0 and trial.error and "\n" not in trial.error
    assert trial.duration_ms < 2000, trial.error
