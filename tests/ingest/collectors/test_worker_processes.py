"""Workers in separate processes: no collection twice, and a killed worker's collector is taken over."""

import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from ingest.collection.loop import start_loops, stop_loops
from ingest.collection.models import Collection, CollectorState
from telemetry_site.env import Environment
from tests.alerts.test_sender_processes import database_settings
from tests.forked_process import ForkedProcess
from tests.ingest.collectors import servers
from tests.ingest.collectors.factories import create_collector, now, run_once, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_targets")]
COLLECTORS, SECONDS = 20, 6.0


def run_worker(seconds: float) -> None:
    settings.ALLOW_PRIVATE_COLLECTORS = Environment({"X": "127.0.0.0/8"}).networks("X")
    loops = start_loops()
    time.sleep(seconds)
    stop_loops(loops)


def test_two_workers_collect_everything_once() -> None:
    asked: Counter[str] = Counter()

    def count(path: str, headers: dict[str, str]) -> servers.Answer:
        asked[path] += 1
        return 200, "text/plain", b"ok"

    with servers.http_server(count) as url:
        for number in range(COLLECTORS):
            create_collector("http", {"url": f"{url}/{number}"}, name=f"c{number}", interval=1)
        workers = [ForkedProcess(database_settings(), run_worker, SECONDS) for _ in range(2)]
        for worker in workers:
            worker.result()
        rows = list(Collection.objects.select_related("collector"))
        assert len(rows) == sum(asked.values())
        assert not [row.error for row in rows if row.error]
        starts: dict[str, list[float]] = {}
        for row in rows:
            due = row.started_at - timedelta(milliseconds=row.late_ms)
            starts.setdefault(row.collector.name, []).append(due.timestamp())
        for name, times in starts.items():
            assert len(times) >= 3, name
            assert len({round(at, 3) for at in times}) == len(times)  # each due time once
    leases = {state.lease for state in CollectorState.objects.all()}
    assert leases == {""}  # a worker that stops releases what it has claimed


def test_collector_of_a_killed_worker_is_taken_over_after_its_lease() -> None:
    with servers.raw_server(servers.hang) as port:
        collector = create_collector("http", {"url": f"http://127.0.0.1:{port}/"}, deadline=60)
        worker = ForkedProcess(database_settings(), run_worker, 60.0)
        state = wait_for(lambda: CollectorState.objects.filter(collector=collector).exclude(lease="").first(), 30)
        worker.kill()
        assert timedelta(seconds=60) < state.leased_until - now() < timedelta(seconds=71)
        assert run_once() == []
        CollectorState.objects.update(leased_until=now())
        collector.deadline = 1
        collector.save()
        (row,) = run_once()
    assert row.error == "no complete answer within 1 s" and row.late_ms > 0


def test_killed_database_connection_does_not_stop_the_worker() -> None:
    with servers.http_server(lambda path, headers: (200, "text/plain", b"ok")) as url:
        create_collector("http", {"url": url}, interval=1)
        loops = start_loops()
        try:
            wait_for(lambda: Collection.objects.count() >= 1, 20)
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND query LIKE '%%ingest_collectorstate%%'"
                )
            count = Collection.objects.count()
            wait_for(lambda: Collection.objects.count() >= count + 2, 30)
        finally:
            stop_loops(loops)


def test_hanging_collectors_delay_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that ignores its deadline, which is abandoned and not started again while it hangs."""
    ended: list[Any] = []

    def ignore_deadline(self: Any, job: Any) -> Any:
        wait_for(lambda: ended, 60)
        return iter(())

    monkeypatch.setattr("ingest.collection.kinds.tls.TlsKind.collect", ignore_deadline)
    with servers.raw_server(servers.hang) as hanging, servers.http_server(lambda *_: (200, "", b"")) as url:
        for number in range(40):
            create_collector("http", {"url": f"http://127.0.0.1:{hanging}/"}, name=f"h{number}", deadline=3, interval=3)
        stuck = create_collector("tls", {"host": "127.0.0.1", "port": 443}, name="stuck", deadline=1, interval=2)
        quick = create_collector("http", {"url": url}, name="quick", interval=1)
        loops = start_loops()
        try:
            wait_for(lambda: stuck.collections.count() >= 2, 30)
            rows = list(quick.collections.order_by("id"))[1:]
        finally:
            ended.append(True)
            stop_loops(loops)
    assert len(rows) >= 3 and not any(row.error for row in rows)
    assert sorted(row.late_ms for row in rows)[len(rows) // 2] < 1000
    first, second = stuck.collections.order_by("id")[:2]
    assert first.error == "did not end within 1 s and was abandoned"
    assert second.error.startswith("the collection of ") and second.error.endswith(" still hangs")
