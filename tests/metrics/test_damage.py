"""Damaged blocks are reported, quarantined and restored; all other points are returned in the right order."""

import io
import json

import hypothesis.strategies as st
import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from metrics.storage.connection import connect
from metrics.storage.format.codec import DamagedPayload, decode
from metrics.storage.merge import restore_damaged, schedule
from metrics.storage.merge.rebuild_point_counts import rebuild_counts
from metrics.storage.read import block_cache
from metrics.tasks import merge_blocks
from tests.conftest import point
from tests.metrics.stored_points import read_stored_parts
from tests.metrics.test_storage import (
    DAY,
    EVERY_HOUR,
    SERIES,
    TODAY,
    StorageMachine,
    points_by_key,
    read_latest_points,
    shards,
    store_points,
)

__all__ = ["shards"]
TABLES = ("metrics_young", "metrics_block", "metrics_latest", "metrics_damagedblock")
KEYS = {"metrics_young": "seq", "metrics_block": "id", "metrics_latest": "bucket", "metrics_damagedblock": "id"}


def flip_payload_byte(connection, table: str, shard: int, number: int) -> None:
    """Damage a payload; a second call repairs it."""
    connection.execute(
        f"UPDATE {table} SET payload = set_byte(payload, 5, get_byte(payload, 5) # 255)"
        f" WHERE shard = %s AND {KEYS[table]} = %s",
        (shard, number),
    )
    block_cache.clear_block_cache()


def read_payloads(connection, table: str) -> dict[tuple[int, int], bytes]:
    rows = connection.execute(f"SELECT shard, {KEYS[table]}, payload FROM {table} ORDER BY 1, 2", binary=True)
    return {(shard, number): payload for shard, number, payload in rows}


def damage_all(table: str) -> None:
    with connect() as connection:
        for location in read_payloads(connection, table):
            flip_payload_byte(connection, table, *location)


def restore_all(connection) -> None:
    for table in TABLES:
        for location, payload in read_payloads(connection, table).items():
            try:
                decode(payload)
            except DamagedPayload:
                flip_payload_byte(connection, table, *location)


class DamageMachine(StorageMachine):
    """The storage state machine with blocks that are damaged and restored at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.connection.execute("TRUNCATE metrics_damagedblock")
        self.written: dict[tuple[int, int], set] = {}
        self.has_damage = False

    def _write(self, rows):
        super()._write(rows)
        for series, time, value, entry in rows:
            self.written.setdefault((series, time), set()).add((value, entry))

    @rule(data=st.data())
    def damage(self, data):
        payloads = [(table, *location) for table in TABLES[:3] for location in read_payloads(self.connection, table)]
        if payloads:
            flip_payload_byte(self.connection, *data.draw(st.sampled_from(payloads)))
            self.has_damage = True

    @precondition(lambda self: self.has_damage)
    @rule()
    def restore(self):
        restore_all(self.connection)
        restore_damaged.restore_readable_blocks(self.connection)
        assert read_payloads(self.connection, "metrics_damagedblock") == {}
        self.has_damage = False

    @invariant()
    def stored_counts_match_the_blocks(self):
        if not self.has_damage:
            rebuild_counts(self.connection)
            super().stored_counts_match_the_blocks()

    def check(self):
        if not self.has_damage:
            return super().check()
        damaged = []
        low, high = TODAY - 4 * DAY, TODAY + 3 * DAY
        points = points_by_key(read_stored_parts(SERIES, low, high, damaged))
        assert all(value in self.written[key] for key, value in points.items())
        assert points == self.model or damaged
        for series, time in points_by_key(read_latest_points(low)):
            assert (series, time) in self.written


@pytest.mark.slow
def test_reads_match_the_model_after_any_order_of_damage_and_restoring(shards, site, monkeypatch):
    monkeypatch.setattr("metrics.storage.merge.point_counts.HOURLY_RETENTION", EVERY_HOUR)
    run_state_machine_as_test(
        DamageMachine,
        settings=settings(
            max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# --- responses --------------------------------------------------------------------------------------


def merge_all_commits() -> None:
    with connect() as connection:
        schedule.merge_commits(connection, force=True)


@pytest.fixture
def client_with_point(admin):
    """A client of a device with one unmerged point."""
    admin.post("devices/device_001/telemetry", point("m", 1.0, 60))
    return admin


LATEST = "devices/device_001/metrics/m/latest"
RANGE = "devices/device_001/metrics/m/range"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["fast lane", "Django"])
def test_damaged_commit_is_listed_as_incomplete_by_every_read(path, client_with_point, administrator):
    damage_all("metrics_young")
    client_with_point.post("devices/device_001/telemetry", point("m", 2.0, 30))
    caller = client_with_point if path == "fast lane" else administrator
    expected = ["unmerged block 1 is damaged and was left out"]
    for _ in range(2):  # before and after a merge has quarantined it
        newest = caller.get(LATEST)
        assert (newest.status, newest.json["value"], newest.json["incomplete"]) == (200, 2.0, expected)
        latest_response = caller.post("latest", {"metrics": ["m"]})
        assert [row["value"] for row in latest_response.json["series"]] == [2.0] and latest_response.json[
            "incomplete"
        ] == expected
        for shape in ("", "?columns=true"):
            response = caller.get(RANGE + shape)
            assert response.status == 200 and response.json["incomplete"] == expected
        assert caller.get(f"{RANGE}?aggregation=avg&interval=3600&columns=true").json["incomplete"] == expected
        merge_all_commits()
        block_cache.clear_block_cache()


@pytest.mark.parametrize("path", ["fast lane", "Django"])
def test_404_of_latest_names_the_damaged_block(path, client_with_point, administrator):
    damage_all("metrics_young")
    response = (client_with_point if path == "fast lane" else administrator).get(LATEST)
    assert response.status == 404 and response.json["detail"].endswith("; unmerged block 1 is damaged and was left out")


def test_response_without_damaged_blocks_has_no_incomplete_field(client_with_point):
    for response in (client_with_point.get(LATEST), client_with_point.get(RANGE), client_with_point.post("latest", {})):
        assert response.status == 200 and "incomplete" not in response.json


@pytest.mark.slow
@pytest.mark.parametrize("path", ["fast lane", "Django"])
def test_damaged_latest_points_of_a_bucket_are_read_from_its_blocks(path, client_with_point, administrator):
    client_with_point.post("devices/device_001/telemetry", point("other", 7.0, 3 * 86400))
    merge_all_commits()
    client_with_point.post("devices/device_001/telemetry", point("m", 2.0, 30))
    merge_all_commits()
    damage_all("metrics_latest")
    caller = client_with_point if path == "fast lane" else administrator
    assert caller.get(LATEST).json["value"] == 2.0 and "incomplete" not in caller.get(LATEST).json
    body = caller.post("latest", {"lookback": 10 * 86400}).json
    assert {row["metric_name"]: row["value"] for row in body["series"]} == {"m": 2.0, "other": 7.0}


def test_merge_rebuilds_damaged_latest_points(client_with_point):
    client_with_point.post("devices/device_001/telemetry", point("other", 7.0, 3 * 86400))
    merge_all_commits()
    damage_all("metrics_latest")
    client_with_point.post("devices/device_001/telemetry", point("m", 2.0, 30))
    merge_all_commits()
    with connect() as connection:
        [payload] = read_payloads(connection, "metrics_latest").values()
    assert sorted(part.values.tolist() for part in decode(payload)) == [[2.0, 7.0]]


def test_empty_payload_counts_as_damaged(client_with_point):
    with connect() as connection:
        connection.execute("UPDATE metrics_young SET payload = ''")
    block_cache.clear_block_cache()
    assert "incomplete" in client_with_point.get(RANGE).json


def test_read_quarantines_a_damaged_merged_block_and_every_response_names_it(client_with_point, caplog):
    merge_all_commits()
    damage_all("metrics_block")
    incomplete = [client_with_point.get(RANGE).json["incomplete"] for _ in range(3)]
    assert incomplete == [["merged block 1 is damaged and was left out"]] * 3
    with connect() as connection:
        assert read_payloads(connection, "metrics_block") == {}
        assert list(read_payloads(connection, "metrics_damagedblock")) == [(0, 1)]
    assert [record.message for record in caplog.records if "checksum" in record.message] == [
        "merged block 1 is damaged: its checksum differs"
    ]


def test_damaged_commit_does_not_stop_other_merges(shards, site):
    for number in range(3):
        store_points([(1, TODAY + number, 1.0, b""), (256, TODAY + number, 1.0, b"")])
        if number == 1:
            with connect() as connection:
                flip_payload_byte(connection, "metrics_young", 0, 2)
    with connect() as connection:
        schedule.merge_commits(connection, force=True)
        schedule.merge_days(connection, force=True)
        assert read_payloads(connection, "metrics_young") == {}
        ranges = connection.execute("SELECT seq_from, seq_to FROM metrics_block WHERE bucket = 0 ORDER BY 1").fetchall()
    assert ranges == [(1, 1), (3, 3)]  # nothing is merged across a quarantined block


@pytest.mark.slow
def test_damaged_blocks_are_listed_with_their_points_and_place(site, client):
    store_points([(1, TODAY, 1.0, b""), (3, TODAY, 1.0, b"")])
    with connect() as connection:
        schedule.merge_commits(connection, force=True)
    damage_all("metrics_block")
    assert read_stored_parts([1], TODAY, TODAY + 1) == []
    output = io.StringIO()
    call_command("storage", stdout=output)
    assert "damaged: merged block 1, 2 points of series 1 to 3, bucket 0, day 2024-10-04" in output.getvalue()
    output = io.StringIO()
    call_command("storage", "--json", stdout=output)
    [block] = json.loads(output.getvalue())["damaged"]
    assert (block["bucket"], block["day"], block["series_from"], block["series_to"], block["points"]) == (
        0,
        20000,
        1,
        3,
        2,
    )
    client.force_login(get_user_model().objects.create_superuser("root"))
    page = client.get("/admin/metrics/damagedblock/").content.decode()
    assert "merged block 1" in page and "2024-10-04" in page and "1 to 3" in page
    assert client.get("/admin/metrics/damagedblock/1/change/").status_code == 200


@pytest.mark.slow
def test_next_merge_restores_a_block_whose_payload_is_readable_again(client_with_point):
    merge_all_commits()
    damage_all("metrics_block")
    assert client_with_point.get(RANGE).json["count"] == 0
    damage_all("metrics_damagedblock")  # the second flip repairs the payload
    merge_blocks()
    body = client_with_point.get(RANGE).json
    assert body["count"] == 1 and "incomplete" not in body


def test_follower_continues_after_a_damaged_commit(site):
    for number in range(3):
        store_points([(1, TODAY + number, 1.0, b"")])
    with connect() as connection:
        flip_payload_byte(connection, "metrics_young", 0, 2)
        commits = block_cache.read_commits_after(connection, {0: 0})
    assert [(seq, len(parts)) for (_, seq), parts in commits] == [(1, 1), (2, 0), (3, 1)]
