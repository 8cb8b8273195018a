"""The configuration that the site sets: what an agent accepts, keeps and reports."""

import json
import signal
import socket
import subprocess
import sys
import time
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ingest.agent.config import Config, Probe
from ingest.agent.http_connection import HttpAnswer
from ingest.agent.remote_config import InvalidRemoteConfig, SignedConfig, parse_settings
from ingest.agent.site_config import SiteConfig
from tests.ingest.agent.conftest import RecordingSite
from tests.ingest.agent.site_signature import CONFIG_PATH, SITE_KEY, SITE_KEY_TEXT, signed_config
from tests.ingest.agent.test_agent import free_port, write_config

FOREIGN_KEY = Ed25519PrivateKey.from_private_bytes(b"f" * 32)
LOCAL_PROBE = Probe("local", 10.0, ("true",))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        "http://127.0.0.1:1",
        "box",
        queue_path=tmp_path / "queue.db",
        site_key=SITE_KEY,
        remote_probes=True,
        probes=(LOCAL_PROBE,),
    )


def answers(body: bytes, status: int = 200) -> Any:
    def fetch(path: str) -> HttpAnswer:
        assert path == CONFIG_PATH
        return HttpAnswer(status, Message(), body, 0.0, 0.0)

    return fetch


def test_signed_configuration_is_in_force_and_kept_for_the_next_start(config: Config) -> None:
    probes = [{"name": "pressure", "run": "read --json 'a b'", "interval": 60, "timeout": 2}]
    probes += [{"name": "local", "path": "/sys/level"}]  # type: ignore[list-item]
    site_config = SiteConfig(config)
    assert site_config.poll(answers(signed_config(version=7, interval=30, probes=probes)))
    for started in (site_config, SiteConfig(config)):
        assert started.in_force.version == 7
        assert started.applied().interval == 30.0
        assert started.applied().probes == (
            Probe("pressure", 60.0, ("read", "--json", "a b"), timeout=2.0),
            Probe("local", 30.0, path=Path("/sys/level")),
        )
        assert started.error == ""
    assert not site_config.poll(answers(signed_config(version=7, interval=30, probes=probes)))


def test_empty_configuration_returns_to_the_one_of_the_agent(config: Config) -> None:
    site_config = SiteConfig(config)
    site_config.poll(answers(signed_config(version=7, interval=30)))
    assert site_config.poll(answers(signed_config(version=8)))
    assert site_config.applied() == config


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (signed_config(FOREIGN_KEY, version=9, interval=60), "the signature is not of this site's key"),
        (signed_config(version=4, interval=60), "version 4 is older than 5"),
        (signed_config(version=9, device_id="other"), "for the device 'other'"),
        (signed_config(version=9, interval=0), "interval: a number of seconds from 1 to 86400 is accepted"),
        (signed_config(version=9, probes=[{"name": "a"}]), "probes[0]: either run or path"),
        (signed_config(version=True), "version: a whole number"),
        (signed_config(version="9"), "version: a whole number"),
        (json.dumps({"version": 9}).encode(), "a document and its signature are required"),
        (json.dumps({"version": 9, "document": "{}", "signature": "?"}).encode(), "cannot be read"),
        (json.dumps({"version": 9, "document": "\ud800", "signature": ""}).encode(), "cannot be read"),
    ],
)
def test_configuration_that_is_not_acceptable_is_reported_and_ignored(
    config: Config, body: bytes, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    site_config = SiteConfig(config)
    assert site_config.poll(answers(signed_config(version=5, interval=20)))
    for _ in range(3):
        assert not site_config.poll(answers(body))
    assert error in site_config.error
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert site_config.in_force.version == SiteConfig(config).in_force.version == 5
    site_config.poll(answers(signed_config(version=5, interval=20)))
    assert site_config.error == ""


@pytest.mark.parametrize(
    ("body", "status"), [(b"<h1>404</h1>", 404), (b"<html>", 200), (b'{"version": 0}', 200), (b"[]", 200)]
)
def test_site_without_configuration_changes_nothing(config: Config, body: bytes, status: int) -> None:
    site_config = SiteConfig(config)
    assert not site_config.poll(answers(body, status))
    assert site_config.error == ""


def test_probes_of_the_site_need_the_consent_of_the_agent(config: Config) -> None:
    closed = Config("http://127.0.0.1:1", "box", queue_path=config.queue_path, site_key=SITE_KEY)
    site_config = SiteConfig(closed)
    assert not site_config.poll(answers(signed_config(probes=[{"name": "a", "run": "id"}])))
    assert "remote_probes = on" in site_config.error
    assert SiteConfig(config).poll(answers(signed_config(version=3, probes=[{"name": "a", "run": "id"}])))
    assert SiteConfig(closed).in_force.version == 0  # the consent was withdrawn meanwhile


@pytest.mark.parametrize("data", [b"", b"{", b"[]", signed_config(FOREIGN_KEY, version=3, interval=60)])
def test_damaged_or_replaced_file_is_ignored_at_the_start(config: Config, data: bytes) -> None:
    site_config = SiteConfig(config)
    site_config.poll(answers(signed_config(version=5, interval=20)))
    (config.queue_path.parent / "queue.db.remote").write_bytes(data)
    started = SiteConfig(config)
    assert started.applied() == config
    assert "stored configuration is ignored" in started.error


def test_agent_without_the_key_of_a_site_does_not_ask(tmp_path: Path) -> None:
    site_config = SiteConfig(Config("http://127.0.0.1:1", "box", queue_path=tmp_path / "queue.db"))
    assert not site_config.poll(lambda path: pytest.fail(f"asked for {path}"))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "run", "path", "x"]), inner),
    max_leaves=6,
)


@pytest.mark.slow
@given(json_values, json_values)
def test_any_settings_are_accepted_or_refused_by_name(interval: Any, probes: Any) -> None:
    try:
        accepted = parse_settings(interval, probes)
    except InvalidRemoteConfig as error:
        assert str(error).startswith(("interval:", "probes"))
    else:
        assert accepted.interval is None or 1 <= accepted.interval <= 86400
        assert len(accepted.probes) == len(probes)


@given(json_values)
def test_any_answer_is_a_signed_document_or_refused(answer: Any) -> None:
    with pytest.raises(InvalidRemoteConfig):
        SignedConfig.parse(answer)


@pytest.mark.slow
def test_running_agent_takes_the_configuration_of_the_site(recording_site: RecordingSite, tmp_path: Path) -> None:
    (tmp_path / "value").write_text("42")
    websocket, http, statsd = free_port(), free_port(), free_port()
    ports = f"websocket_port = {websocket}\nhttp_port = {http}\nstatsd_port = {statsd}\n"
    options = f"site_key = {SITE_KEY_TEXT}\nremote_probes = on\n{ports}"
    config = write_config(tmp_path, recording_site.url, options)
    probes = [{"name": "level", "path": str(tmp_path / "value")}]
    recording_site.files[CONFIG_PATH] = signed_config(version=11, interval=2, probes=probes)
    command = [sys.executable, "-m", "ingest.agent", "run", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    hits = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        try:
            while "level" not in {name for _, _, name in list(recording_site.stored)} and hits < 1000:
                sender.sendto(b"hits:1|c", ("127.0.0.1", statsd))  # lost before the first start only
                hits += 1
                time.sleep(0.02)
            with (
                socket.create_connection(("127.0.0.1", http), 5),
                socket.create_connection(("127.0.0.1", websocket), 5),
            ):
                pass
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=15)
    assert process.returncode == 0
    assert "cannot be opened" not in errors
    assert "configuration 11 of the site is in force" in errors
    assert sum(value for (_, _, name), value in recording_site.stored.items() if name == "hits") > 0
    values = {value for (_, _, name), value in recording_site.stored.items() if name == "agent.config.version"}
    assert values == {0, 11}
    assert {value for (_, _, name), value in recording_site.stored.items() if name == "level"} == {42}
