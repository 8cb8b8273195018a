"""Export jobs in this process: their rows and files."""

import io
import json
import time
from datetime import timedelta
from itertools import chain, repeat

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from metrics.devices import group_membership
from metrics.export import job_files, jobs
from metrics.export.job_events import NO_USER
from metrics.export.parquet import arrow_header, convert_to_parquet, encode_arrow_batch
from metrics.export.rows import ExportSeries
from metrics.models import Device, DeviceGroup, Event, ExportJob
from metrics.storage.connection import connect
from tests.conftest import ApiClient, person, with_token
from tests.metrics.events.recorded import forget_events, recorded_events
from tests.metrics.sample_day import END_TEXT, START_TEXT, merge_all, point_at, send_points
from tests.metrics.test_export import damage, export, read_export, two_days

EXPORT_PARAMETERS = {
    "device_ids": ["device_001"],
    "metric_names": ["temperature"],
    "start_time": START_TEXT,
    "end_time": END_TEXT,
}


def create_export(caller: ApiClient, **changes) -> str:
    response = caller.post("export/jobs", EXPORT_PARAMETERS | changes)
    assert response.status == 202, response.raw
    assert (response.json["status"], response.json["progress"], response.json["expires_at"]) == ("queued", 0.0, None)
    return response.json["id"]


def get_export(caller: ApiClient, export_id: str):
    response = caller.get(f"export/jobs/{export_id}")
    assert response.status == 200, response.raw
    return response.json


def download(caller: ApiClient, export_id: str) -> bytes:
    response = caller.get(f"export/jobs/{export_id}/download")
    assert response.status == 200, response.raw
    assert int(response.headers["Content-Length"]) == len(response.raw)
    return response.raw


def list_files() -> set[str]:
    return {path.name for path in job_files.export_folder().glob("*")}


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    """Use a temporary export folder."""
    settings.EXPORTS_DIR = tmp_path / "exports"


@pytest.fixture
def points(admin):
    send_points(admin, [point_at(tick, value=tick / 8, unit="celsius") for tick in range(500)])
    return admin


class WorkerKilled(BaseException):
    """Raised to kill a worker; nothing catches it."""


@pytest.fixture
def kill_worker_at_save(monkeypatch):
    """Kill a worker right before its n-th save."""

    def kill_at(saves: int) -> None:
        remaining = [saves]
        save = jobs._save

        def save_or_die(job, **values):
            remaining[0] -= 1
            if remaining[0] == 0:
                raise WorkerKilled
            save(job, **values)

        monkeypatch.setattr(jobs, "SAVE_INTERVAL", 0.0)
        monkeypatch.setattr("metrics.export.read_pieces.MAX_NUMERIC_POINTS", 64)
        monkeypatch.setattr(jobs, "_save", save_or_die)

    return kill_at


def expire_leases() -> None:
    ExportJob.objects.update(lease_until=timezone.now() - timedelta(seconds=1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("changes", [{}, {"aggregation": "avg", "interval": 60}])
def test_background_export_equals_streamed_export(points, kind, changes):
    export_id = create_export(points, format=kind, **changes)
    assert jobs.run_pending_jobs() == 1
    job = get_export(points, export_id)
    assert (job["status"], job["progress"], job["rows"]) == ("done", 1.0, 9 if changes else 500)
    streamed = export(points, format=kind, **changes)
    response = points.get(f"export/jobs/{export_id}/download")
    assert download(points, export_id) == streamed.raw
    assert response.headers["Content-Disposition"] == streamed.headers["Content-Disposition"]
    assert job["bytes"] == len(streamed.raw)
    assert len(list_files()) == 1


LARGE_VALUES = {
    "number": lambda n: n / 8,
    "switch": lambda n: n % 3 == 0,
    "text": lambda n: f"{n} " + "é" * (n % 90),
    "document": lambda n: {"n": n, "parts": [None, n / 2, "x" * (n % 40)]},
    "mixed": lambda n: [n, f"text {n}", n % 2 == 0, [n]][n % 4],
}


@pytest.mark.slow
def test_parquet_job_of_several_megabytes_has_the_rows_of_json_lines(admin):
    for first in range(0, 12_000, 200):
        ticks = range(first, first + 200)
        send_points(admin, [point_at(n, name, value(n)) for n in ticks for name, value in LARGE_VALUES.items()])
    merge_all()
    contents = {}
    for kind in ("jsonl", "parquet"):
        export_id = create_export(admin, format=kind, metric_names=list(LARGE_VALUES))
        jobs.run_pending_jobs()
        job = get_export(admin, export_id)
        assert (job["status"], job["rows"]) == ("done", 60_000), job["detail"]
        contents[kind] = download(admin, export_id)
    assert len(contents["jsonl"]) > 5_000_000
    table = pq.read_table(io.BytesIO(contents["parquet"])).to_pylist()
    for row, line in zip(table, contents["jsonl"].splitlines(), strict=True):
        point = json.loads(line)
        value = point["value"]
        assert row["value"] == (value if isinstance(value, bool | int | float) else None)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        assert row["text"] == (None if is_number else text)
        assert (row["metric_name"], row["unit"], row["tags"]) == (point["metric_name"], None, "{}")
        assert row["timestamp"].isoformat().replace("+00:00", "Z") == point["timestamp"]


@pytest.mark.slow
def test_parquet_job_of_many_short_series_takes_linear_time(admin):
    batch = encode_arrow_batch(ExportSeries("d", "m", np.zeros(1, np.int64), np.zeros(1)))
    started = time.monotonic()
    content = b"".join(convert_to_parquet(chain([arrow_header()], repeat(batch, 30_000))))
    assert pq.read_metadata(io.BytesIO(content)).num_rows == 30_000
    assert time.monotonic() - started < 20  # a sum over all batches for each would take a minute


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("saves", [1, 2, 5, 9, 10])
def test_export_of_a_dead_worker_is_continued(points, kill_worker_at_save, kind, saves):
    export_id = create_export(points, format=kind)
    expected = export(points, format=kind).raw
    kill_worker_at_save(saves)
    with pytest.raises(WorkerKilled):
        jobs.run_pending_jobs()
    assert get_export(points, export_id)["status"] == "running"
    assert jobs.run_pending_jobs() == 0, "its lease is not over"
    expire_leases()
    kill_worker_at_save(10**9)
    assert jobs.run_pending_jobs() == 1
    assert download(points, export_id) == expected
    assert get_export(points, export_id)["rows"] == 500


@pytest.mark.slow
def test_writes_after_a_lost_lease_are_ignored(points, monkeypatch):
    """The first worker continues after another has taken over: its writes are ignored, and it stops."""
    export_id = create_export(points)
    write_file, taken_over = job_files.JobFile.write, []

    def write_after_takeover(part: job_files.JobFile, data: bytes) -> None:
        if not taken_over:
            taken_over.append(part.name)
            expire_leases()
            job = jobs.claim_job()
            assert job is not None
            jobs._run_job(job)
        write_file(part, data)

    monkeypatch.setattr(job_files.JobFile, "write", write_after_takeover)
    jobs.run_pending_jobs()
    job_row = get_export(points, export_id)
    assert (job_row["status"], job_row["rows"]) == ("done", 500)
    assert download(points, export_id) == export(points).raw


def test_export_fails_after_max_attempts(points):
    export_id = create_export(points)
    ExportJob.objects.update(attempt=jobs.MAX_ATTEMPTS)
    jobs.run_pending_jobs()
    job = get_export(points, export_id)
    assert job["status"] == "failed" and "was killed" in job["detail"]


def test_queued_export_can_be_cancelled_and_a_finished_one_not(points):
    queued, finished = create_export(points), create_export(points)
    assert points.post(f"export/jobs/{queued}/cancel", {}).json["status"] == "cancelled"
    assert points.post(f"export/jobs/{queued}/cancel", {}).status == 200
    assert jobs.run_pending_jobs() == 1
    response = points.post(f"export/jobs/{finished}/cancel", {})
    assert response.status == 409 and "done" in response.json["detail"]
    assert points.get(f"export/jobs/{queued}/download").status == 409


def test_cancelled_running_export_stops_at_next_save_without_files(points, monkeypatch):
    export_id = create_export(points)
    monkeypatch.setattr(jobs, "SAVE_INTERVAL", 0.0)
    monkeypatch.setattr("metrics.export.read_pieces.MAX_NUMERIC_POINTS", 64)
    save, saves = jobs._save, []

    def save_after_cancel(job, **values):
        if not saves:
            assert points.post(f"export/jobs/{export_id}/cancel", {}).status == 200
        saves.append(1)
        save(job, **values)

    monkeypatch.setattr(jobs, "_save", save_after_cancel)
    jobs.run_pending_jobs()
    assert len(saves) == 1
    assert get_export(points, export_id)["status"] == "cancelled"
    assert list_files() == set()


def test_export_expires_after_a_day_with_its_file(points):
    export_id = create_export(points)
    jobs.run_pending_jobs()
    job = get_export(points, export_id)
    expiry = timezone.datetime.fromisoformat(job["expires_at"])
    assert expiry - timezone.datetime.fromisoformat(job["finished_at"]) == jobs.FILE_RETENTION
    (job_files.export_folder() / "exp_nobodys.1").write_bytes(b"x")
    assert jobs.delete_expired_jobs(expiry - timedelta(seconds=1)) == 0
    assert list_files() == {f"{export_id}.1"}
    assert jobs.delete_expired_jobs(expiry + timedelta(seconds=1)) == 1
    assert list_files() == set()
    assert points.get(f"export/jobs/{export_id}").status == 404


def test_download_of_a_missing_file_returns_410(points):
    export_id = create_export(points)
    jobs.run_pending_jobs()
    (job_files.export_folder() / f"{export_id}.1").unlink()
    response = points.get(f"export/jobs/{export_id}/download")
    assert response.status == 410 and "create the export again" in response.json["detail"]


def test_failed_export_has_a_reason(points, settings, tmp_path):
    empty_export = create_export(points, device_ids=["nobody"])
    jobs.run_pending_jobs()
    job = get_export(points, empty_export)
    assert (job["status"], job["rows"], job["bytes"]) == ("failed", 0, 0)
    assert job["detail"] == "these devices and metrics have no data in this range"
    (tmp_path / "file").write_text("")
    settings.EXPORTS_DIR = tmp_path / "file"
    unwritable_export = create_export(points)
    jobs.run_pending_jobs()
    job = get_export(points, unwritable_export)
    assert (job["status"], job["detail"]) == ("failed", "the file cannot be written: File exists")


def test_unexpected_export_error_is_logged_and_not_returned(points, monkeypatch):
    export_id = create_export(points)

    def raise_error(question):
        raise ZeroDivisionError("of no use to whoever asked")

    monkeypatch.setattr(jobs, "resolve_series", raise_error)
    jobs.run_pending_jobs()
    job = get_export(points, export_id)
    assert (job["status"], job["detail"]) == (
        "failed",
        "the export failed; the error is in the worker's log",
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("condition", "rows"), [("day = (SELECT max(day) FROM metrics_block)", 1000), ("true", 0)])
def test_background_export_reports_damaged_blocks_as_incomplete(admin, kind, condition, rows):
    start = two_days(admin)
    damage(condition)
    export_id = create_export(admin, **start, format=kind)
    jobs.run_pending_jobs()
    job = get_export(admin, export_id)
    assert (job["status"], job["rows"]) == ("done", rows)
    assert job["incomplete"] and all(
        message.startswith("merged block") and message.endswith("is damaged and was left out")
        for message in job["incomplete"]
    )
    assert read_export(download(admin, export_id), kind) == (rows, job["incomplete"])


def test_export_continues_after_the_database_was_unavailable(points, monkeypatch):
    from metrics.storage.errors import StorageUnavailable

    export_id = create_export(points)

    def raise_unavailable(question):
        raise StorageUnavailable("the database cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "resolve_series", raise_unavailable)
        with pytest.raises(StorageUnavailable):
            jobs.run_pending_jobs()
    expire_leases()
    assert jobs.run_pending_jobs() == 1
    assert get_export(points, export_id)["status"] == "done"


@pytest.mark.slow
def test_export_is_visible_to_owner_and_admins_only(points, reader, administrator, device, anonymous):
    from django.contrib.auth import get_user_model

    own_export = create_export(reader)
    other_export = create_export(administrator)
    jobs.run_pending_jobs()
    stranger = person(reader.port, get_user_model().objects.create_user("stranger"))
    for caller, visible in ((reader, {own_export}), (stranger, set()), (device, set())):
        assert {job["id"] for job in caller.get("export/jobs").json["jobs"]} == visible
    for caller in (points, administrator):
        assert {job["id"] for job in caller.get("export/jobs").json["jobs"]} == {own_export, other_export}
        assert caller.get(f"export/jobs/{own_export}/download").status == 200
    for caller, status in ((stranger, 404), (device, 404), (anonymous, 401)):
        for path in (f"export/jobs/{own_export}", f"export/jobs/{own_export}/download"):
            assert caller.get(path).status == status
        assert caller.post(f"export/jobs/{own_export}/cancel", {}).status == status
    assert anonymous.get("export/jobs").status == 401
    assert anonymous.post("export/jobs", EXPORT_PARAMETERS).status == 401


@pytest.mark.slow
def test_device_key_may_export_only_its_own_points(points, device, gateway):
    assert device.post("export/jobs", EXPORT_PARAMETERS).status == 202
    for devices in (["device_002"], ["device_001", "device_002"], "device_001,device_002", [], None, 5):
        assert device.post("export/jobs", EXPORT_PARAMETERS | {"device_ids": devices}).status == 403
    assert gateway.post("export/jobs", EXPORT_PARAMETERS).status == 403


@pytest.mark.slow
def test_exports_are_listed_in_pages_newest_first(points):
    ordered = [create_export(points) for _ in range(5)]
    first = points.get("export/jobs?limit=3").json
    second = points.get(f"export/jobs?limit=3&cursor={first['next_cursor']}").json
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == ordered[::-1]
    assert (first["count"], second["count"], second["next_cursor"]) == (3, 2, None)
    for query in ("limit=0", "limit=1000", "cursor=x"):
        assert points.get(f"export/jobs?{query}").status == 400


@pytest.mark.slow
def test_too_many_unfinished_exports_are_rejected_with_429(points, reader):
    for _ in range(jobs.MAX_UNFINISHED):
        create_export(points)
    response = points.post("export/jobs", EXPORT_PARAMETERS)
    assert response.status == 429 and response.headers["Retry-After"] == "5" and "unfinished" in response.json["detail"]
    assert reader.post("export/jobs", EXPORT_PARAMETERS).status == 202


@pytest.mark.parametrize("name", ["exp_nothing", "%25", "..%2F..%2Fetc", "é"])
def test_unknown_export_returns_404(points, name):
    for path in (f"export/jobs/{name}", f"export/jobs/{name}/download"):
        assert points.get(path.replace("é", "%C3%A9")).status == 404


def test_export_job_returns_its_query_parameters(points):
    parameters = {"aggregation": "avg", "interval": 60, "fill": 0.5, "timezone": "Europe/Berlin", "group_by": "device"}
    job_body = get_export(points, create_export(points, **parameters))
    assert {name: job_body[name] for name in parameters} == parameters
    assert (job_body["device_ids"], job_body["metric_names"]) == (["device_001"], ["temperature"])
    job = ExportJob.objects.get()
    assert jobs.query_of(job).start.isoformat() == START_TEXT
    assert json.loads(json.dumps(job.question))["fill"] == 0.5


def test_snapshot_of_a_finished_export_is_closed(points):
    create_export(points)
    jobs.run_pending_jobs()
    with connect() as connection:
        open_transactions = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        )
        assert open_transactions.fetchone() == (0,)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["device left", "user left", "group deleted"])
def test_download_of_devices_that_are_no_longer_visible_returns_410(points: ApiClient, viewer: ApiClient, change: str):
    group, device = DeviceGroup.objects.get(name="site a"), Device.objects.get(device_id="device_001")
    group_membership.add_devices(group, [device.pk])
    Device.objects.create(device_id="hidden")
    callers = [viewer, with_token(viewer.port, "viewer")]
    export_id = create_export(viewer, device_ids=["device_001", "hidden", "missing"])
    assert jobs.run_pending_jobs() == 1
    content = download(points, export_id)
    assert [download(caller, export_id) for caller in callers] == [content, content]
    if change == "device left":
        group_membership.remove_devices(group, [device.pk])
    elif change == "user left":
        group.members.clear()
    else:
        group.delete()
    for caller in callers:
        response = caller.get(f"export/jobs/{export_id}/download")
        assert (response.status, "no longer see" in response.json["detail"]) == (410, True)
    assert download(points, export_id) == content


def test_export_has_events_from_order_to_end_that_only_its_owner_sees(points, administrator):
    forget_events()
    export_id = create_export(administrator)
    jobs.run_pending_jobs()
    events = recorded_events("job.")
    assert [(event[0], event[2]["status"], event[2]["progress"], event[2]["rows"]) for event in events] == [
        ("job.created", "queued", 0.0, 0),
        ("job.progressed", "running", 0.0, 0),
        ("job.progressed", "running", 0.99, 500),
        ("job.finished", "done", 1.0, 500),
    ]
    owner = get_user_model().objects.get(username="administrator").pk
    assert {(event[1], event[2]["job_id"], event[2]["user_id"]) for event in events} == {
        (f"job/{export_id}", export_id, owner)
    }
    assert set(Event.objects.filter(type__startswith="job.").values_list("owner_id", "device_id")) == {(owner, None)}


def test_failed_and_cancelled_exports_end_with_an_event(points):
    forget_events()
    create_export(points, device_ids=["device_002"])
    jobs.run_pending_jobs()
    jobs.cancel_job(ExportJob.objects.get(export_id=create_export(points)))
    events = recorded_events("job.")
    assert [(event[0], event[2]["status"]) for event in events[-3:]] == [
        ("job.failed", "failed"),
        ("job.created", "queued"),
        ("job.finished", "cancelled"),
    ]
    assert "no data in this range" in events[-3][2]["detail"]
    assert set(Event.objects.filter(type__startswith="job.").values_list("owner_id", flat=True)) == {NO_USER}


def test_progress_of_a_worker_that_lost_its_job_has_no_event(points):
    export_id = create_export(points)
    job = jobs.claim_job()
    jobs.cancel_job(ExportJob.objects.get(export_id=export_id))
    forget_events()
    with pytest.raises(jobs._LeaseLost):
        jobs._save_progress(job, [])
    jobs._fail(job, "too late")
    assert recorded_events() == []
