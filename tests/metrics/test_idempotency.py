"""Idempotency-Key: a repeated request is executed once and gets the same response."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.urls import get_resolver
from django.urls.resolvers import URLPattern
from django.utils import timezone

from metrics.models import ExportJob, IdempotentAnswer, MetricDefinition
from metrics.tasks import drop_idempotent_answers
from tests.conftest import ApiClient, point
from tests.telemetry_site.routes import handlers
from tests.telemetry_site.site_process import wait_until

STATE = {"name": "state", "data_type": "string"}
# POSTs that are executed each time, and the reason why that is safe.
REPEATABLE = {
    "bulk": "points: each is stored once, and a batch_id returns the same response",
    "devices/<name:device_id>/telemetry": "as above",
    "devices/<name:device_id>/telemetry/batch": "as above",
    "snapshot": "as above",
    "rejected/replay": "as above; replayed points are no longer in the inbox",
    "rejected/<int:number>/replay": "as above",
    "query": "reads only",
    "latest": "reads only",
    "alerts/silences/preview": "reads only",
    "alerts/backtest": "reads only",
    "alerts/channels/<id:channel_id>/test": "sends a message that is marked as a test",
    "auth/token": "the response has secrets, which are not stored; nobody has the tokens of a lost response",
    "auth/refresh": "as above; a client that repeats a refresh token has to sign in again",
    "auth/revoke": "has no further effect",
    "keys": "the response has a secret, which is not stored; a key of a lost response is listed and can be revoked",
    "keys/<int:key_id>/rotate": "as above",
    "keys/<int:key_id>/revoke": "has no further effect",
    "tickets": "the response has a secret, which is not stored; a ticket that nobody uses expires after 30 seconds",
    "collectors/<id:collector_id>/run": "a request that no worker has started is returned again",
    "collectors/<id:collector_id>/deployments": "each state of a deployment is stored once",
    "bus/parked/<int:number>/replay": "a replayed message is no longer parked",
}


def test_repeated_request_is_executed_once_with_the_same_response(admin: ApiClient):
    first = admin.post("metrics", STATE, Idempotency_Key="k-1")
    second = admin.post("metrics", {"data_type": "string", "name": "state"}, Idempotency_Key="k-1")
    assert (first.status, second.status) == (201, 201) and first.raw == second.raw
    assert first.headers["ETag"] == second.headers["ETag"]
    assert "Idempotent-Replayed" not in first.headers and second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["Content-Type"] == "application/json"
    assert MetricDefinition.objects.count() == 1
    assert admin.post("metrics", STATE).status == 400  # without the header every request is executed


def test_other_request_with_the_same_key_is_rejected_with_422(admin: ApiClient):
    assert admin.post("metrics", STATE, Idempotency_Key="k").status == 201
    for path, body in (("metrics", STATE | {"unit": "V"}), ("/api/v1/metrics", STATE)):
        response = admin.post(path, body, Idempotency_Key="k")
        assert response.status == 422 and response.json["errors"][0]["field"] == "Idempotency-Key"
    assert MetricDefinition.objects.count() == 1


def test_same_key_of_another_caller_is_independent(admin: ApiClient, administrator: ApiClient):
    assert admin.post("metrics", STATE, Idempotency_Key="k").status == 201
    assert administrator.post("metrics", STATE | {"name": "other"}, Idempotency_Key="k").status == 201
    assert administrator.post("metrics", STATE | {"name": "other"}, Idempotency_Key="k").status == 201
    assert MetricDefinition.objects.count() == 2


def test_rejected_request_may_be_corrected_with_the_same_key(admin: ApiClient, reader: ApiClient):
    assert admin.post("metrics", STATE | {"data_type": "x"}, Idempotency_Key="k").status == 400
    assert admin.post("metrics", b"{", Idempotency_Key="k").status == 400
    assert reader.post("metrics", STATE, Idempotency_Key="k").status == 403
    assert not IdempotentAnswer.objects.exists()
    assert admin.post("metrics", STATE, Idempotency_Key="k").status == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tin it", "ümlaut"])
def test_invalid_key_is_rejected_with_400(admin: ApiClient, key: str):
    response = admin.post("metrics", STATE, Idempotency_Key=key)
    assert response.status == 400 and response.json["errors"][0]["field"] == "Idempotency-Key"
    assert not MetricDefinition.objects.exists()


@pytest.fixture
def locked_table(site: None) -> Iterator[threading.Event]:
    """The table of definitions is locked until the event is set."""
    lock_acquired, release = threading.Event(), threading.Event()

    def hold_lock() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE metrics_metricdefinition IN EXCLUSIVE MODE")
            lock_acquired.set()
            release.wait(20)
        connection.close()

    thread = threading.Thread(target=hold_lock)
    thread.start()
    assert lock_acquired.wait(10)
    yield release
    release.set()
    thread.join()


def test_repetition_of_a_running_request_returns_409(admin: ApiClient, locked_table: threading.Event):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(admin.post, "metrics", STATE, Idempotency_Key="k")
        wait_until(lambda: _waits_for_a_lock(), 10, "the first waits in the database")
        second = admin.post("metrics", STATE, Idempotency_Key="k")
        assert second.status == 409 and "is running" in second.json["detail"]
        assert not first.done()
        locked_table.set()
        assert first.result().status == 201
    assert admin.post("metrics", STATE, Idempotency_Key="k").headers["Idempotent-Replayed"] == "true"


def _waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'")
        return bool(cursor.fetchone()[0])


@pytest.mark.slow
def test_concurrent_requests_with_one_key_execute_once(admin: ApiClient):
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: admin.post("metrics", STATE, Idempotency_Key="k"), range(16)))
    assert {response.status for response in responses} <= {201, 409}
    assert sum("Idempotent-Replayed" not in created.headers for created in responses if created.status == 201) == 1
    assert MetricDefinition.objects.count() == 1


def test_killed_process_leaves_neither_effects_nor_response(admin: ApiClient, locked_table: threading.Event):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(admin.post, "metrics", STATE, Idempotency_Key="k")
        wait_until(lambda: _waits_for_a_lock(), 10, "the first waits in the database")
        with connection.cursor() as cursor:  # terminate its connection, as when the process is killed
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
                " WHERE NOT granted AND locktype = 'relation' AND backend_type = 'client backend'"
            )
        assert first.result().status == 503
    locked_table.set()
    wait_until(lambda: not MetricDefinition.objects.exists(), 5, "nothing was defined")
    assert not IdempotentAnswer.objects.exists()
    response = admin.post("metrics", STATE, Idempotency_Key="k")
    assert response.status == 201 and "Idempotent-Replayed" not in response.headers


def test_repeated_order_creates_one_export_job(admin: ApiClient):
    admin.post("devices/d/telemetry", point("m", 1.0))
    body = {"device_ids": ["d"], "metric_names": ["m"], "start_time": "2025-01-01T00:00:00Z"}
    body |= {"end_time": "2025-01-02T00:00:00Z", "format": "csv"}
    first, second = (admin.post("export/jobs", body, Idempotency_Key="k") for _ in range(2))
    assert first.status == second.status == 202 and first.json["id"] == second.json["id"]
    assert ExportJob.objects.count() == 1


def test_key_expires_after_24_hours(admin: ApiClient):
    assert admin.post("metrics", STATE, Idempotency_Key="k").status == 201
    IdempotentAnswer.objects.update(at=timezone.now() - timedelta(hours=24, seconds=1))
    assert admin.post("metrics", STATE | {"name": "other"}, Idempotency_Key="k").status == 201
    assert drop_idempotent_answers() == 0 and IdempotentAnswer.objects.count() == 1
    IdempotentAnswer.objects.update(at=timezone.now() - timedelta(hours=24, seconds=1))
    assert drop_idempotent_answers() == 1 and not IdempotentAnswer.objects.exists()
    assert "metrics.tasks.drop_idempotent_answers" in {
        entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()
    }


def test_stored_response_contains_no_secret(admin: ApiClient):
    admin.post("metrics", STATE, Idempotency_Key="k")
    [stored] = IdempotentAnswer.objects.all()
    key = admin.headers["X-Api-Key"]
    for column in (stored.caller, str(stored.headers), bytes(stored.body).decode(), bytes(stored.digest).hex()):
        assert key not in column and hashlib.sha256(key.encode()).hexdigest() not in column


def post_handlers(patterns: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the handler of every POST of the API."""
    for entry in patterns:
        path = prefix + str(entry.pattern)
        if not isinstance(entry, URLPattern):
            yield from post_handlers(entry.url_patterns, path)
        elif handler := handlers(entry.callback).get("POST"):
            yield path, handler


def test_every_post_is_idempotent_or_listed_as_repeatable():
    prefix = "api/v1/telemetry/"
    posts = {
        path.removeprefix(prefix): handler
        for path, handler in post_handlers(get_resolver().url_patterns)
        if path.startswith(prefix)
    }
    unsafe = {path for path, handler in posts.items() if not hasattr(handler, "idempotent")}
    assert unsafe == set(REPEATABLE), "@idempotent (rest.idempotency), or a line in REPEATABLE with the reason"
