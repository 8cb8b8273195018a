"""State and resources of the containers of a Docker engine, over its Unix socket or TCP."""

import http.client
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from rest_framework import serializers

from ingest.collection.fetch import UnixConnection, parse_json, request
from ingest.collection.kinds.kind import Collected, CollectionJob, FieldErrors, Kind, check_url, validate_url
from ingest.collectors.formats.docker_stats import (
    Container,
    CpuSample,
    cpu_sample,
    read_containers,
    resource_readings,
    state_readings,
    totals,
)
from ingest.collectors.reading import CollectFailed, Reading
from rest.fields import BooleanField, StrictSerializer, name_field
from rest.outgoing.http_connection import PinnedConnection, port_of

UNIX, TCP = "unix://", "tcp://"
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
MAX_CONTAINERS = 500
MAX_SAMPLED_COLLECTORS = 1_000

_cpu_samples: dict[str, dict[str, CpuSample]] = {}  # of the last collection, by collector and container


class DockerConfiguration(StrictSerializer):
    engine = name_field(
        default=DEFAULT_ENGINE,
        label="Engine",
        help_text="Socket of the engine on the machine of the worker, or tcp://host:port.",
    )
    all_containers = BooleanField(default=True, label="Stopped containers too", help_text="Include stopped containers.")
    device_per_container = BooleanField(
        default=False,
        label="A device per container",
        help_text="Store a container as the device `device/container` instead of as metrics `docker.container.…`.",
    )

    def validate_engine(self, engine: str) -> str:
        if engine.startswith(UNIX):
            if not engine.removeprefix(UNIX).startswith("/"):
                raise serializers.ValidationError("an absolute path is accepted, such as unix:///var/run/docker.sock")
        elif engine.startswith(TCP):
            validate_url(engine.replace(TCP, "http://", 1))
        else:
            raise serializers.ValidationError("unix:///path or tcp://host:port is accepted")
        return engine


class DockerKind(Kind):
    name, label, description = "docker", "Docker", "State and resources of the containers of a Docker engine."
    configuration_class = DockerConfiguration

    def target(self, configuration: Mapping[str, Any]) -> str:
        return str(configuration["engine"])

    def check(self, configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
        if configuration["engine"].startswith(TCP):
            yield from check_url("engine", configuration["engine"].replace(TCP, "http://", 1))

    def collect(self, job: CollectionJob) -> Collected:
        connection = _connect(job)
        try:
            yield from _collect(job, connection)
        finally:
            connection.close()


def _collect(job: CollectionJob, connection: http.client.HTTPConnection) -> Collected:
    everything = "1" if job.configuration["all_containers"] else "0"
    containers = read_containers(_get(job, connection, f"/containers/json?all={everything}"))
    yield from totals(containers)
    if len(containers) > MAX_CONTAINERS:
        raise CollectFailed(f"{len(containers):,} containers: at most {MAX_CONTAINERS} are collected")
    before = _cpu_samples.get(job.collector_id, {})
    samples: dict[str, CpuSample] = {}
    if len(_cpu_samples) >= MAX_SAMPLED_COLLECTORS:  # most of them were deleted
        _cpu_samples.clear()
    _cpu_samples[job.collector_id] = samples
    for container in containers:
        yield from _of_container(job, container, state_readings(container))
        if container.state == "running":
            path = f"/containers/{quote(container.id, safe='')}/stats?stream=false&one-shot=true"
            stats = _get(job, connection, path, missing={})  # it may have ended since it was listed
            if (sample := cpu_sample(stats)) is not None:
                samples[container.id] = sample
            yield from _of_container(job, container, resource_readings(stats, before.get(container.id)))


def _of_container(job: CollectionJob, container: Container, readings: Iterator[Reading]) -> Iterator[Reading]:
    tags = {"container": container.name, "image": container.image}
    for reading in readings:
        if job.configuration["device_per_container"]:
            device_id = f"{job.device_id}/{container.name}"
            yield reading._replace(metric=f"container.{reading.metric}", device_id=device_id, tags=tags)
        else:
            yield reading._replace(metric=f"docker.{container.name}.{reading.metric}", tags=tags)


def _connect(job: CollectionJob) -> http.client.HTTPConnection:
    """Return a connection to the engine, which opens with the first request. Raises CollectFailed."""
    engine = job.configuration["engine"]
    if engine.startswith(TCP):
        parts = urlsplit(engine.replace(TCP, "http://", 1))
        return PinnedConnection(parts, job.resolve(parts.hostname or "", port_of(parts)), job.deadline)
    path = Path(engine.removeprefix(UNIX))
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        raise CollectFailed(f"no socket: {path} does not exist on the machine of the worker") from None
    except OSError as error:
        raise CollectFailed(f"no socket: {path} cannot be used: {error.strerror}") from None
    if not is_socket:
        raise CollectFailed(f"no socket: {path} is another kind of file")
    return UnixConnection(str(path), job.deadline)


def _get(job: CollectionJob, connection: http.client.HTTPConnection, path: str, missing: Any = None) -> Any:
    """Request a document of the engine. Raises CollectFailed; for 404 returns `missing` if there is one."""
    fetched = request(job, connection, path, headers={"Accept": "application/json", "Host": "docker"})
    if fetched.status == 404 and missing is not None:
        return missing
    if fetched.status != 200:
        raise CollectFailed(f"the engine answered HTTP {fetched.status} to {path.partition('?')[0]}")
    return parse_json(fetched)


def reset_samples() -> None:
    """Forget the CPU times of the last collections."""
    _cpu_samples.clear()
