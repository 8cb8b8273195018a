"""The Docker collector against an engine that speaks its API on a Unix socket."""

import json
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ingest.collection.kinds import docker
from tests.ingest.collectors import servers
from tests.ingest.collectors.servers import Answer
from tests.ingest.collectors.test_kinds import collect

pytestmark = pytest.mark.usefixtures("local_targets")

SECOND = 1_000_000_000  # nanoseconds


@dataclass
class Engine:
    """Containers of a fake engine; `cpu_seconds` passes with each request for statistics."""

    socket: Path
    containers: list[dict[str, Any]] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    samples: int = 0
    paths: list[str] = field(default_factory=list)
    stats_body: bytes | None = None

    @property
    def configuration(self) -> dict[str, Any]:
        return {"engine": f"unix://{self.socket}"}

    def answer(self, path: str, headers: dict[str, str]) -> Answer:
        self.paths.append(path)
        if path.startswith("/containers/json"):
            shown = [item for item in self.containers if "all=1" in path or item["State"] == "running"]
            return 200, "application/json", json.dumps(shown).encode()
        container_id = path.split("/")[2]
        if container_id in self.gone:
            return 404, "application/json", b'{"message":"No such container"}'
        return 200, "application/json", self.stats_body or json.dumps(self.stats()).encode()

    def stats(self) -> dict[str, Any]:
        self.samples += 1
        return {
            "cpu_stats": {
                "cpu_usage": {"total_usage": self.samples * SECOND // 4},
                "system_cpu_usage": self.samples * 2 * SECOND,  # of two CPUs
                "online_cpus": 2,
            },
            "memory_stats": {"usage": 110 * 2**20, "limit": 400 * 2**20, "stats": {"inactive_file": 10 * 2**20}},
            "networks": {"eth0": {"rx_bytes": 2**20, "tx_bytes": 2**21}, "eth1": {"rx_bytes": 2**20, "tx_bytes": 0}},
            "pids_stats": {"current": 7},
        }


def container(name: str, state: str = "running", status: str = "Up 3 hours") -> dict[str, Any]:
    names = [f"/{name}", f"/other/{name}"]
    return {"Id": f"{name}-id", "Names": names, "Image": "nginx:1.27", "State": state, "Status": status}


@pytest.fixture
def engine() -> Iterator[Engine]:
    docker.reset_samples()
    with tempfile.TemporaryDirectory() as folder:  # short enough for a socket
        engine = Engine(Path(folder) / "engine.sock", [container("web"), container("job", "exited", "Exited (1)")])
        with servers.unix_server(engine.socket, engine.answer):
            yield engine


def test_state_and_resources_of_containers_are_collected(engine: Engine) -> None:
    values, trial = collect("docker", engine.configuration)
    assert trial.error == ""
    assert (values["docker.containers"], values["docker.containers_running"]) == (2, 1)
    assert (values["docker.web.state"], values["docker.job.state"]) == ("running", "exited")
    assert (values["docker.web.memory_mib"], values["docker.web.memory_percent"]) == (100, 25)
    assert (values["docker.web.network_received_mib"], values["docker.web.network_sent_mib"]) == (2, 2)
    assert values["docker.web.processes"] == 7 and "docker.job.memory_mib" not in values
    assert "docker.web.cpu_percent" not in values  # needs an earlier sample
    assert collect("docker", engine.configuration)[0]["docker.web.cpu_percent"] == 25


def test_container_as_device(engine: Engine) -> None:
    _, trial = collect("docker", engine.configuration | {"device_per_container": True})
    devices = {reading.device_id for reading in trial.readings}
    assert devices == {"boiler", "boiler/web", "boiler/job"}
    running = [reading for reading in trial.readings if reading.metric == "container.running"]
    assert running[0].tags == {"container": "web", "image": "nginx:1.27"}


def test_health_of_a_container(engine: Engine) -> None:
    engine.containers = [
        container("a", status="Up 1 hour (healthy)"),
        container("b", status="Up 1 hour (unhealthy)"),
        container("c", status="Up 1 second (health: starting)"),
    ]
    values, _ = collect("docker", engine.configuration)
    assert [values[f"docker.{name}.health"] for name in "abc"] == ["healthy", "unhealthy", "starting"]
    assert values["docker.containers_unhealthy"] == 1


def test_container_that_ended_meanwhile_is_no_failure(engine: Engine) -> None:
    engine.gone = {"web-id"}
    values, trial = collect("docker", engine.configuration)
    assert trial.error == "" and "docker.web.memory_mib" not in values


def test_stopped_containers_can_be_left_out(engine: Engine) -> None:
    values, _ = collect("docker", engine.configuration | {"all_containers": False})
    assert values["docker.containers"] == 1


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"cpu_stats": null, "memory_stats": {"usage": "x"}, "networks": [1]}']
)
def test_statistics_of_another_shape_are_left_out(engine: Engine, body: bytes) -> None:
    engine.stats_body = body
    values, trial = collect("docker", engine.configuration)
    assert trial.error == "" and "docker.web.memory_mib" not in values


def test_statistics_that_are_no_json_keep_the_states(engine: Engine) -> None:
    engine.stats_body = b'{"cpu_stats": {"cpu_us'
    values, trial = collect("docker", engine.configuration)
    assert trial.error.startswith("the answer is not JSON") and values["docker.web.state"] == "running"


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n[{"Id": "a", "Na',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n[{",
        b"HTTP/1.1 200",
        b"",
    ],
    ids=["length", "chunk", "status", "nothing"],
)
def test_answer_that_is_cut_off_is_a_clear_failure(answer: bytes) -> None:
    with servers.raw_server(servers.cut(answer)) as port:
        _, trial = collect("docker", {"engine": f"tcp://127.0.0.1:{port}"})
    assert any(word in trial.error for word in ("cut off", "closed", "not JSON")), trial.error


def test_missing_socket_is_a_clear_state(tmp_path: Path) -> None:
    missing = tmp_path / "docker.sock"
    _, trial = collect("docker", {"engine": f"unix://{missing}"})
    assert trial.error == f"no socket: {missing} does not exist on the machine of the worker"
    missing.write_text("")
    _, trial = collect("docker", {"engine": f"unix://{missing}"})
    assert trial.error == f"no socket: {missing} is another kind of file"


def test_socket_without_a_listener_is_a_clear_state() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.sock"
        with socket.socket(socket.AF_UNIX) as unused:
            unused.bind(str(path))
        _, trial = collect("docker", {"engine": f"unix://{path}"})
    assert trial.error == f"no program listens on {path}"


@pytest.mark.parametrize("document", [{"message": "x"}, "text", None, [1, "a", None, {}]])
def test_list_of_another_shape_is_no_crash(engine: Engine, document: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "containers", document)
    engine.answer = lambda path, headers: (200, "application/json", json.dumps(document).encode())  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, servers.unix_server(Path(folder) / "s", engine.answer):
        values, trial = collect("docker", {"engine": f"unix://{folder}/s"})
    assert trial.error == "the engine did not answer with a list of containers" or values["docker.containers"] == 0
