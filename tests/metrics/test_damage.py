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
        for place in read_payloads(connection, table):
            flip_payload_byte(connection, table, *place)


def restore_all(connection) -> None:
    for table in TABLES:
        for place, payload in read_payloads(connection, table).items():
            try:
                decode(payload)
            except DamagedPayload:
                flip_payload_byte(connection, table, *place)


class DamageMachine(StorageMachine):
    """The storage state machine with blocks that are damaged and restored at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.connection.execute("TRUNCATE metrics_damagedblock")
        self.written: dict[tuple[int, int], set] = {}
        self.harmed = False

    def _write(self, rows):
        super()._write(rows)
        for series, time, value, entry in rows:
            self.written.setdefault((series, time), set()).add((value, entry))

    @rule(data=st.data())
    def damage(self, data):
        found = [(table, *place) for table in TABLES[:3] for place in read_payloads(self.connection, table)]
        if found:
            flip_payload_byte(self.connection, *data.draw(st.sampled_from(found)))
            self.harmed = True

    @precondition(lambda self: self.harmed)
    @rule()
    def restore(self):
        restore_all(self.connection)
        restore_damaged.restore_readable_blocks(self.connection)
        assert read_payloads(self.connection, "metrics_damagedblock") == {}
        self.harmed = False

    @invariant()
    def what_is_counted_is_what_is_stored(self):
        if not self.harmed:
            rebuild_counts(self.connection)
            super().what_is_counted_is_what_is_stored()

    def check(self):
        if not self.harmed:
            return super().check()
        damaged = []
        low, high = TODAY - 4 * DAY, TODAY + 3 * DAY
        found = points_by_key(read_stored_parts(SERIES, low, high, damaged))
        assert all(value in self.written[key] for key, value in found.items())
        assert found == self.model or damaged
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


def merge_commits() -> None:
    with connect() as connection:
        schedule.merge_commits(connection, force=True)


@pytest.fixture
def sent(admin):
    """A client of a device with one unmerged point."""
    admin.post("devices/device_001/telemetry", point("m", 1.0, 60))
    return admin


LATEST = "devices/device_001/metrics/m/latest"
RANGE = "devices/device_001/metrics/m/range"


@pytest.mark.parametrize("door", ["fast lane", "Django"])
def test_damaged_commit_is_listed_as_incomplete_by_every_read(door, sent, administrator):
    damage_all("metrics_young")
    sent.post("devices/device_001/telemetry", point("m", 2.0, 30))
    caller = sent if door == "fast lane" else administrator
    told = ["unmerged block 1 is damaged and was left out"]
    for _ in range(2):  # before and after a merge has quarantined it
        newest = caller.get(LATEST)
        assert (newest.status, newest.json["value"], newest.json["incomplete"]) == (200, 2.0, told)
        many = caller.post("latest", {"metrics": ["m"]})
        assert [one["value"] for one in many.json["series"]] == [2.0] and many.json["incomplete"] == told
        for shape in ("", "?columns=true"):
            found = caller.get(RANGE + shape)
            assert found.status == 200 and found.json["incomplete"] == told
        assert caller.get(f"{RANGE}?aggregation=avg&interval=3600&columns=true").json["incomplete"] == told
        merge_commits()
        block_cache.clear_block_cache()


@pytest.mark.parametrize("door", ["fast lane", "Django"])
def test_404_of_latest_names_the_damaged_block(door, sent, administrator):
    damage_all("metrics_young")
    answer = (sent if door == "fast lane" else administrator).get(LATEST)
    assert answer.status == 404 and answer.json["detail"].endswith("; unmerged block 1 is damaged and was left out")


def test_response_without_damaged_blocks_has_no_incomplete_field(sent):
    for answer in (sent.get(LATEST), sent.get(RANGE), sent.post("latest", {})):
        assert answer.status == 200 and "incomplete" not in answer.json


@pytest.mark.parametrize("door", ["fast lane", "Django"])
def test_damaged_latest_points_of_a_bucket_are_read_from_its_blocks(door, sent, administrator):
    sent.post("devices/device_001/telemetry", point("other", 7.0, 3 * 86400))
    merge_commits()
    sent.post("devices/device_001/telemetry", point("m", 2.0, 30))
    merge_commits()
    damage_all("metrics_latest")
    caller = sent if door == "fast lane" else administrator
    assert caller.get(LATEST).json["value"] == 2.0 and "incomplete" not in caller.get(LATEST).json
    many = caller.post("latest", {"lookback": 10 * 86400}).json
    assert {one["metric_name"]: one["value"] for one in many["series"]} == {"m": 2.0, "other": 7.0}


def test_merge_rebuilds_damaged_latest_points(sent):
    sent.post("devices/device_001/telemetry", point("other", 7.0, 3 * 86400))
    merge_commits()
    damage_all("metrics_latest")
    sent.post("devices/device_001/telemetry", point("m", 2.0, 30))
    merge_commits()
    with connect() as connection:
        [payload] = read_payloads(connection, "metrics_latest").values()
    assert sorted(part.values.tolist() for part in decode(payload)) == [[2.0, 7.0]]


def test_empty_payload_counts_as_damaged(sent):
    with connect() as connection:
        connection.execute("UPDATE metrics_young SET payload = ''")
    block_cache.clear_block_cache()
    assert "incomplete" in sent.get(RANGE).json


def test_read_quarantines_a_damaged_merged_block_and_every_response_names_it(sent, caplog):
    merge_commits()
    damage_all("metrics_block")
    told = [sent.get(RANGE).json["incomplete"] for _ in range(3)]
    assert told == [["merged block 1 is damaged and was left out"]] * 3
    with connect() as connection:
        assert read_payloads(connection, "metrics_block") == {}
        assert list(read_payloads(connection, "metrics_damagedblock")) == [(0, 1)]
    assert [one.message for one in caplog.records if "checksum" in one.message] == [
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
        of_first = connection.execute(
            "SELECT seq_from, seq_to FROM metrics_block WHERE bucket = 0 ORDER BY 1"
        ).fetchall()
    assert of_first == [(1, 1), (3, 3)]  # nothing is merged across a quarantined block


def test_damaged_blocks_are_listed_with_their_points_and_place(site, client):
    store_points([(1, TODAY, 1.0, b""), (3, TODAY, 1.0, b"")])
    with connect() as connection:
        schedule.merge_commits(connection, force=True)
    damage_all("metrics_block")
    assert read_stored_parts([1], TODAY, TODAY + 1) == []
    out = io.StringIO()
    call_command("storage", stdout=out)
    assert "damaged: merged block 1, 2 points of series 1 to 3, bucket 0, day 2024-10-04" in out.getvalue()
    out = io.StringIO()
    call_command("storage", "--json", stdout=out)
    [told] = json.loads(out.getvalue())["damaged"]
    assert (told["bucket"], told["day"], told["series_from"], told["series_to"], told["points"]) == (0, 20000, 1, 3, 2)
    client.force_login(get_user_model().objects.create_superuser("root"))
    page = client.get("/admin/metrics/damagedblock/").content.decode()
    assert "merged block 1" in page and "2024-10-04" in page and "1 to 3" in page
    assert client.get("/admin/metrics/damagedblock/1/change/").status_code == 200


def test_next_merge_restores_a_block_whose_payload_is_readable_again(sent):
    merge_commits()
    damage_all("metrics_block")
    assert sent.get(RANGE).json["count"] == 0
    damage_all("metrics_damagedblock")  # a second time repairs it
    merge_blocks()
    found = sent.get(RANGE).json
    assert found["count"] == 1 and "incomplete" not in found


def test_follower_continues_after_a_damaged_commit(site):
    for number in range(3):
        store_points([(1, TODAY + number, 1.0, b"")])
    with connect() as connection:
        flip_payload_byte(connection, "metrics_young", 0, 2)
        found = block_cache.read_commits_after(connection, {0: 0})
    assert [(seq, len(parts)) for (_, seq), parts in found] == [(1, 1), (2, 0), (3, 1)]
