"""Containers and their statistics, as the API of the Docker engine returns them. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ingest.collectors.reading import CollectFailed, Reading

MEBI = 2**20


class Container(NamedTuple):
    """A container; `state` such as running or exited."""

    id: str
    name: str
    image: str
    state: str
    health: str


class CpuSample(NamedTuple):
    """CPU time of a container and of all CPUs, in nanoseconds."""

    used: float
    system: float
    cpus: int


def read_containers(document: Any) -> list[Container]:
    """Return the containers of `GET /containers/json`. Raises CollectFailed."""
    if not isinstance(document, list):
        raise CollectFailed("the engine did not answer with a list of containers")
    return [_read_container(item) for item in document if isinstance(item, Mapping) and item.get("Id")]


def _read_container(item: Mapping[str, Any]) -> Container:
    names = [str(name).lstrip("/") for name in item.get("Names") or ()]
    status = str(item.get("Status") or "")
    health = next((word for word in ("unhealthy", "healthy", "health: starting") if f"({word})" in status), "")
    container_id = str(item["Id"])
    own_name = next((name for name in names if "/" not in name), container_id[:12])  # links have two parts
    image, state = str(item.get("Image") or ""), str(item.get("State") or "unknown")
    return Container(container_id, own_name, image, state, health.removeprefix("health: "))


def state_readings(container: Container) -> Iterator[Reading]:
    """Yield the metrics of a container's state."""
    yield Reading("state", container.state)
    yield Reading("running", float(container.state == "running"))
    yield Reading("image", container.image or "unknown")
    if container.health:
        yield Reading("health", container.health)


def totals(containers: Sequence[Container]) -> Iterator[Reading]:
    """Yield the counts of all containers."""
    yield Reading("docker.containers", float(len(containers)))
    yield Reading("docker.containers_running", float(sum(item.state == "running" for item in containers)))
    yield Reading("docker.containers_unhealthy", float(sum(item.health == "unhealthy" for item in containers)))


def cpu_sample(stats: Any) -> CpuSample | None:
    """Return the CPU times of `GET /containers/{id}/stats`; None where there are none, as of a stopped container."""
    cpu = _mapping(stats, "cpu_stats")
    used, system = _number(_mapping(cpu, "cpu_usage"), "total_usage"), _number(cpu, "system_cpu_usage")
    if used is None or system is None:
        return None
    per_cpu = _mapping(cpu, "cpu_usage").get("percpu_usage")
    return CpuSample(used, system, int(_number(cpu, "online_cpus") or len(per_cpu or ()) or 1))


def resource_readings(stats: Any, before: CpuSample | None) -> Iterator[Reading]:
    """Yield the use of resources; the share of CPUs since an earlier sample, of one CPU as 100 %."""
    sample = cpu_sample(stats)
    if sample and before and sample.system > before.system and sample.used >= before.used:
        share = (sample.used - before.used) / (sample.system - before.system) * sample.cpus
        yield Reading("cpu_percent", round(100 * share, 3), "%")
    yield from _memory_readings(_mapping(stats, "memory_stats"))
    networks = [network for network in _mapping(stats, "networks").values() if isinstance(network, Mapping)]
    if networks:
        for name, field in (("network_received_mib", "rx_bytes"), ("network_sent_mib", "tx_bytes")):
            yield Reading(name, round(sum(_number(network, field) or 0 for network in networks) / MEBI, 3), "MiB")
    if (count := _number(_mapping(stats, "pids_stats"), "current")) is not None:
        yield Reading("processes", count)


def _memory_readings(memory: Mapping[str, Any]) -> Iterator[Reading]:
    usage, limit = _number(memory, "usage"), _number(memory, "limit")
    if usage is None:
        return
    details = _mapping(memory, "stats")
    cache = _number(details, "inactive_file") or _number(details, "total_inactive_file") or 0  # cgroup v2, v1
    used = usage - cache if cache < usage else usage
    yield Reading("memory_mib", round(used / MEBI, 3), "MiB")
    if limit:
        yield Reading("memory_percent", round(100 * used / limit, 3), "%")


def _mapping(parent: Any, name: str) -> Mapping[str, Any]:
    value = parent.get(name) if isinstance(parent, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _number(parent: Mapping[str, Any], name: str) -> float | None:
    value = parent.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
