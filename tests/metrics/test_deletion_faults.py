"""A deletion whose process or database is killed after any statement continues and changes nothing else."""

from collections.abc import Iterator

import pytest

from tests.forked_process import run_forked
from tests.metrics import process_steps
from tests.metrics.test_faults import NO_DIFFERENCE, FaultStorage, kill_during, server
from tests.private_postgres import PrivatePostgres

__all__ = ["server"]
DELETED_SERIES, KEPT_SERIES = (
    [1, 256, 301],
    [2, 300],
)  # two devices in the same buckets

DELETION_STATEMENTS = [
    ("DELETE", "metrics_series"),
    ("DELETE", "metrics_device"),
    ("UPDATE", "metrics_head"),
    ("INSERT", "metrics_deletion"),
]
POINT_DELETION_STATEMENTS = [
    ("DELETE", "metrics_block"),
    ("INSERT", "metrics_block"),
    ("DELETE", "metrics_rollup"),
    ("INSERT", "metrics_rollup"),
    ("INSERT", "metrics_latest"),
    ("UPDATE", "metrics_deletion"),
]


@pytest.fixture
def fault_storage(server: PrivatePostgres) -> Iterator[FaultStorage]:
    """Two devices in the same buckets: day blocks, runs above them, and unmerged commits."""
    storage = FaultStorage(server)
    rounds = [(storage.commits(20, (3, 50)), "everything")]
    rounds += [(storage.commits(4, (0, 3, 50)), "commits") for _ in range(2)]
    run_forked(server.database, process_steps.reset_storage)
    run_forked(server.database, process_steps.store_and_merge, [*rounds, (storage.commits(5, (0, 3)), "")])
    run_forked(server.database, process_steps.assign_series, KEPT_SERIES)
    yield storage


def drop_deleted_from_model(storage: FaultStorage) -> None:
    """Remove the points of the deleted device from the model."""
    storage.model = {key: value for key, value in storage.model.items() if key[0] in KEPT_SERIES}


@pytest.mark.slow
def test_deletion_killed_before_its_commit_has_no_effect(server: PrivatePostgres, fault_storage: FaultStorage):
    for statement, table in DELETION_STATEMENTS:
        kill_during(server, "worker", (process_steps.delete_by_id, "d"), statement, table)
        assert fault_storage.differences() == NO_DIFFERENCE, (statement, table)
        assert run_forked(server.database, process_steps.read_deletion, "d") == ("none", 0)
    first = run_forked(server.database, process_steps.delete_by_id, "d")
    assert run_forked(server.database, process_steps.delete_by_id, "d") == first


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "postgres"])
def test_point_deletion_killed_after_any_statement_continues_and_affects_no_other_device(
    server: PrivatePostgres, fault_storage: FaultStorage, victim: str
):
    run_forked(server.database, process_steps.delete_by_id, "d")
    while run_forked(server.database, process_steps.run_task, "merge_young_blocks"):
        pass
    drop_deleted_from_model(fault_storage)
    for statement, table in POINT_DELETION_STATEMENTS:
        kill_during(server, victim, (process_steps.run_task, "remove_deleted"), statement, table)
        differences = fault_storage.differences()
        remaining = differences["phantom"]  # points of the deleted device, which are not in the model
        assert differences == NO_DIFFERENCE | {"phantom": remaining, "wrong": remaining}, (statement, table)
        run_forked(server.database, process_steps.run_task, "merge_blocks")
    while run_forked(server.database, process_steps.run_task, "remove_deleted"):
        pass
    assert fault_storage.differences() == NO_DIFFERENCE
    status, points = run_forked(server.database, process_steps.read_deletion, "d")
    assert status == "done" and points > 0
    run_forked(server.database, process_steps.run_task, "merge_blocks")
    assert fault_storage.differences() == NO_DIFFERENCE
