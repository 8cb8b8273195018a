"""Claims, leases, deadlines and the journal of the orchestrator."""

import socket
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from ingest.collection import lifecycle
from ingest.collection.claims import claim_due
from ingest.collection.loop import CollectionLoop
from ingest.collection.models import Collection, CollectorState
from ingest.models import Collector
from metrics.query.latest import read_latest_points
from metrics.storage.connection import dedicated_connection
from tests.ingest.collectors.factories import create_collector, latest, make_due, run_once


@pytest.fixture
def listening(local_targets: None) -> Any:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def tcp(port: int, **fields: Any) -> Collector:
    return create_collector("tcp", {"host": "127.0.0.1", "port": port}, **fields)


def test_due_collector_stores_its_points_and_a_journal_row(listening: int) -> None:
    collector = tcp(listening)
    (row,) = run_once()
    values = latest()
    assert values[f"tcp.{listening}.up"] == 1
    assert values["collector.tcp check.up"] == 1 and values["collectors.failing"] == 0
    assert (row.points, row.rejected, row.error) == (2, 0, "")
    assert len(row.checksum) == 64 and row.duration_ms > 0
    (point, *_) = read_latest_points(["boiler"], [f"tcp.{listening}.up"]).points
    assert abs(point.timestamp - row.started_at) < timedelta(milliseconds=1)
    state = CollectorState.objects.get(collector=collector)
    assert state.snapshot_id == row.snapshot_id and state.lease == "" and state.due_at > row.started_at
    assert run_once() == [row]  # not due again before its interval


def test_failed_collection_is_in_the_journal_and_in_the_metrics(local_targets: None) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    tcp(port)
    (row,) = run_once()
    assert row.error == f"127.0.0.1:{port} does not accept connections: Connection refused"
    values = latest()
    assert values[f"tcp.{port}.up"] == 0 and values["collector.tcp check.up"] == 0
    assert values["collectors.failing"] == 1


def test_claimed_collector_is_claimed_again_only_after_its_lease(listening: int) -> None:
    collector = tcp(listening)
    with dedicated_connection() as connection:
        (first,) = claim_due(connection, "a" * 16, 10)
        assert claim_due(connection, "b" * 16, 10) == []
        CollectorState.objects.filter(collector=collector).update(leased_until=first.started_at)
        (second,) = claim_due(connection, "b" * 16, 10)
    assert second.lease != first.lease and second.collector == first.collector


def test_disabled_collector_is_collected_on_request_only(listening: int) -> None:
    collector = tcp(listening, enabled=False)
    assert run_once() == []
    snapshot_id = lifecycle.request_collection(collector, "user:ann")
    assert lifecycle.request_collection(collector, "user:ben") == snapshot_id
    (row,) = run_once()
    assert (row.snapshot_id, row.requested_by, row.late_ms) == (snapshot_id, "user:ann", 0)
    assert run_once() == [row]
    assert lifecycle.request_collection(collector, "user:ben") != snapshot_id


def test_interval_that_changes_during_a_collection_counts(listening: int) -> None:
    collector = tcp(listening, interval=86_400)
    loop = CollectionLoop()
    with dedicated_connection() as connection:
        loop.step(connection)
        lifecycle.change_collector(collector, {"interval": 5})
    loop._running[0].join(5)
    row = Collection.objects.get()
    assert CollectorState.objects.get().due_at - row.started_at < timedelta(seconds=6)


def test_lateness_is_in_the_journal(listening: int) -> None:
    make_due(tcp(listening), ago=3)
    (row,) = run_once()
    assert 3000 <= row.late_ms < 4500
