"""Of several beats, only the leader schedules tasks."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import redis
from celery import Celery

from metrics.storage import connection as connections
from telemetry_site.beat import LeaderScheduler
from tests.conftest import REDIS_URL

pytestmark = pytest.mark.usefixtures("site")
QUEUE = "test_beat"


@pytest.fixture
def beats(tmp_path: Path) -> Iterator[tuple[LeaderScheduler, LeaderScheduler]]:
    """Two beats with one task that is always due."""
    app = Celery("test", broker=REDIS_URL.replace("unix://", "redis+socket://", 1), set_as_current=False)
    app.conf.beat_schedule = {"task": {"task": "any", "schedule": timedelta(0), "options": {"queue": QUEUE}}}
    pair = tuple(LeaderScheduler(app=app, schedule_filename=str(tmp_path / name)) for name in "ab")
    yield pair  # type: ignore[misc]
    for beat in pair:
        beat.close()
    with redis.Redis.from_url(REDIS_URL) as client:
        client.delete(QUEUE)


def queued_tasks() -> int:
    with redis.Redis.from_url(REDIS_URL) as client:
        return int(client.llen(QUEUE))  # type: ignore[arg-type]


@pytest.mark.slow
def test_only_the_leader_sends_tasks_until_it_ends(beats: tuple[LeaderScheduler, LeaderScheduler]) -> None:
    first, second = beats
    first.tick()
    assert queued_tasks() == 1
    for _ in range(3):
        assert second.tick() == 1.0
    assert queued_tasks() == 1
    first.tick()
    assert queued_tasks() == 2
    first.close()
    second.tick()
    assert queued_tasks() == 3


@pytest.mark.slow
def test_leader_that_lost_its_session_stops_sending(beats: tuple[LeaderScheduler, LeaderScheduler]) -> None:
    first, second = beats
    first.tick()
    assert first._lock_connection is not None
    with connections.connect() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (first._lock_connection.info.backend_pid,))
    second.tick()
    assert queued_tasks() == 2
    first.tick()
    first.tick()
    assert queued_tasks() == 2


def test_beat_sends_nothing_while_the_database_is_unreachable(
    beats: tuple[LeaderScheduler, LeaderScheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise psycopg.OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(connections, "connection_parameters", refuse)
        assert beats[0].tick() == 1.0
    assert queued_tasks() == 0
    beats[0].tick()
    assert queued_tasks() == 1
