"""A node that is down costs only its own shards, and nothing once it is back."""

from collections.abc import Callable, Iterator

import pytest

from alerts.models import Alert, Rule
from metrics.storage import shards as sharding
from metrics.storage.connection import connect
from metrics.storage.merge import schedule
from metrics.storage.read.block_cache import read_heads
from metrics.storage.write.group_commit import stop_writer
from tests.alerts.conftest import create_cpu_rule, evaluator, run
from tests.citus.cluster import CitusCluster, Node
from tests.citus.test_tasks import SHARDS, nodes, shards, store_one_point_per_shard
from tests.conftest import ApiClient, point

__all__ = ["create_cpu_rule", "evaluator", "nodes", "shards"]

_PORTS = """
SELECT shard, nodeport FROM generate_series(0, %s) shard JOIN pg_dist_shard_placement placement
ON placement.shardid = get_shard_id_for_distribution_column('metrics_head', shard::int2)
"""


@pytest.fixture
def names(shards: int, admin: ApiClient) -> dict[int, str]:
    """The name of a metric with a point, by shard."""
    return store_one_point_per_shard(admin)


@pytest.fixture
def rules(names: dict[int, str], create_cpu_rule: Callable[..., Rule]) -> dict[int, Rule]:
    """A rule on each metric, by shard."""
    return {shard: create_cpu_rule(name=name, metric_name=name) for shard, name in names.items()}


@pytest.fixture
def lost(nodes: CitusCluster, names: dict[int, str]) -> Iterator[set[int]]:
    """The shards of the first worker, which is down during the test."""
    worker = nodes.workers[0]
    with connect() as connection:
        rows = connection.execute(_PORTS, (SHARDS - 1,)).fetchall()
    worker.stop()
    yield {shard for shard, port in rows if port == worker.port}
    restart(worker)


def restart(worker: Node) -> None:
    if worker.process is None or worker.process.poll() is not None:
        worker.start()
    sharding.clear_unreachable()


def send(admin: ApiClient, names: dict[int, str], value: float) -> dict[int, int]:
    """Send a value of a metric in each shard with a request of its own; return the statuses by shard."""
    return {shard: admin.post("devices/d/telemetry", point(name, value)).status for shard, name in names.items()}


def expected(names: dict[int, str], lost: set[int], status: int) -> dict[int, int]:
    return {shard: 503 if shard in lost else status for shard in names}


@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "restarted"])
def test_points_of_other_nodes_are_stored_and_read(nodes, admin, names, lost, is_restarted):
    assert 0 < len(lost) < SHARDS
    if is_restarted:
        stop_writer()
    assert send(admin, names, 100.0) == expected(names, lost, 200)
    latest = {shard: admin.get(f"devices/d/metrics/{name}/latest") for shard, name in names.items()}
    assert {shard: answer.status for shard, answer in latest.items()} == expected(names, lost, 200)
    assert {answer.json["value"] for answer in latest.values() if answer.status == 200} == {100.0}
    restart(nodes.workers[0])
    assert send(admin, names, 200.0) == dict.fromkeys(names, 200)
    values = [admin.get(f"devices/d/metrics/{name}/latest").json["value"] for name in names.values()]
    assert values == [200.0] * len(names)


def test_points_of_other_nodes_are_merged(nodes, admin, names, lost):
    with connect() as connection:
        assert set(read_heads(connection)) == set(range(SHARDS)) - lost
        assert schedule.merge_commits(connection, force=True) > 0
        schedule.merge_days(connection, force=True)
        restart(nodes.workers[0])
        assert set(read_heads(connection)) == set(range(SHARDS))
        assert schedule.merge_commits(connection, force=True) > 0
        remaining = connection.execute("SELECT count(*) FROM metrics_young").fetchone()
    assert remaining == (0,)


def test_alerts_of_other_nodes_are_opened(nodes, admin, names, rules, evaluator, lost):
    assert send(admin, names, 1000.0) == expected(names, lost, 200)
    run(evaluator)
    assert set(Alert.objects.values_list("rule", flat=True)) == {
        rules[shard].pk for shard in names if shard not in lost
    }
    restart(nodes.workers[0])
    assert send(admin, {shard: names[shard] for shard in lost}, 1000.0) == dict.fromkeys(lost, 200)
    run(evaluator)
    assert set(Alert.objects.values_list("rule", flat=True)) == {rule.pk for rule in rules.values()}
