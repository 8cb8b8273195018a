"""Stored point counts after retention, rebuilds and damage."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from metrics.storage.connection import Connection, connect
from metrics.storage.format.codec import Columns, encode, read_point_counts
from metrics.storage.merge import point_counts, schedule
from metrics.storage.merge.rebuild_point_counts import rebuild_counts
from metrics.storage.merge.retention import delete_expired
from metrics.storage.read import point_totals
from tests.conftest import ApiClient, point
from tests.metrics.point_count_checks import check_point_counts, count_stored_points, read_stored_counts
from tests.metrics.statistics_steps import DEVICE, merge_all
from tests.metrics.test_storage import DAY, TODAY, store_points


@pytest.fixture
def stored(site: None) -> Iterator[Connection]:
    """Merged points of two series ranges and three days."""
    for day in range(3):
        store_points(
            [
                (series, TODAY + day * DAY + offset, 1.0, b"")
                for series in (1, 2, 300, 9000)
                for offset in range(day + 1)
            ]
        )
    with connect() as connection:
        schedule.merge_commits(connection, force=True)
        schedule.merge_days(connection, force=True)
        yield connection


POINTS_BY_SERIES = {1: 6, 2: 6, 300: 6, 9000: 6}


def test_retention_subtracts_deleted_points_from_counts(stored: Connection) -> None:
    assert check_point_counts(stored) == POINTS_BY_SERIES
    delete_expired(stored, now=(TODAY + 92 * DAY) / 1_000_000)  # the first two days
    assert check_point_counts(stored) == dict.fromkeys(POINTS_BY_SERIES, 3)


def test_retention_subtracts_points_of_mixed_kinds_from_counts(stored: Connection) -> None:
    ids, times = np.array([1, 2], np.int64), np.array([TODAY, TODAY], np.int64)
    numbers = Columns(ids[:1], np.array([0, 1]), times[:1], np.array([1.0]))
    texts = Columns(ids[1:], np.array([0, 1]), times[1:], np.array([b"x"], object))
    payload = encode([numbers, texts])  # as old rows had it
    assert read_point_counts(payload) is None
    stored.execute(
        "UPDATE metrics_block SET payload = %s, points = 2, series_to = 2 WHERE day = %s AND bucket = 0",
        (payload, TODAY // DAY),
    )
    stored.execute("UPDATE metrics_count SET pending = 1 WHERE hour = 0")
    rebuild_counts(stored)
    counts_before = check_point_counts(stored)
    delete_expired(stored, now=(TODAY + 91 * DAY) / 1_000_000)
    counts_after = check_point_counts(stored)
    assert {number: counts_before[number] - counts_after[number] for number in POINTS_BY_SERIES} == dict.fromkeys(
        POINTS_BY_SERIES, 1
    )


@pytest.mark.parametrize("length", range(4, 400, 7))
def test_truncated_counts_payload_yields_no_wrong_counts(length: int) -> None:
    ids = np.arange(300, dtype=np.int64) * 3
    payload = encode([Columns(ids, np.arange(301), np.arange(300) ** 2, np.ones(300))])
    counts = read_point_counts(payload[:length])
    assert counts is None or (counts[0].tolist() == ids.tolist() and counts[1].tolist() == [1] * 300)


def test_missing_counts_are_rebuilt_during_merges(stored: Connection) -> None:
    stored.execute("UPDATE metrics_count SET payload = '', points = 0, bytes = 0, pending = 1")
    store_points(
        [(1, TODAY, 2.0, b""), (1, TODAY + 9, 2.0, b""), (300, TODAY, 2.0, b"")]
    )  # one of the three points is new

    class MergingCountChange(point_counts.CountChange):
        """Merges the new points after the first block was counted."""

        done = False

        def add_counts(self, series: Any, lengths: Any) -> None:
            if not MergingCountChange.done:
                MergingCountChange.done = True
                with connect() as other:
                    schedule.merge_commits(other, force=True)
                    schedule.merge_days(other, force=True)
            super().add_counts(series, lengths)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metrics.storage.merge.rebuild_point_counts.CountChange", MergingCountChange)
        assert rebuild_counts(stored) == 2
    assert MergingCountChange.done and rebuild_counts(stored) == 0
    assert check_point_counts(stored) == POINTS_BY_SERIES | {1: 7}


def test_count_marked_during_rebuild_is_rebuilt_again(stored: Connection) -> None:
    stored.execute("UPDATE metrics_count SET pending = 1 WHERE stretch = 0")
    marked = threading.Event()

    class MarkingCountChange(point_counts.CountChange):
        def add_counts(self, series: Any, lengths: Any) -> None:
            if not marked.is_set():
                marked.set()
                with connect() as other:
                    point_counts.mark_for_rebuild(other, 0, 0)
            super().add_counts(series, lengths)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metrics.storage.merge.rebuild_point_counts.CountChange", MarkingCountChange)
        rebuild_counts(stored)
    assert rebuild_counts(stored) == 1 and rebuild_counts(stored) == 0
    assert check_point_counts(stored) == POINTS_BY_SERIES


def test_two_workers_do_not_rebuild_the_same_counts_concurrently(stored: Connection) -> None:
    stored.execute("UPDATE metrics_count SET pending = 1 WHERE stretch = 0")
    with connect() as other:
        from metrics.storage.locks import lock_count_rebuild

        assert lock_count_rebuild(other, 0, 0)
        assert rebuild_counts(stored) == 0
    assert rebuild_counts(stored) == 1
    assert check_point_counts(stored) == POINTS_BY_SERIES


def test_damaged_count_is_reported_until_rebuilt(admin: ApiClient) -> None:
    admin.post("devices/device_001/telemetry", point())
    merge_all()
    with connect() as connection:
        connection.execute("UPDATE metrics_count SET payload = set_byte(payload, 5, get_byte(payload, 5) # 255)")
        incomplete = ["some point counts are being rebuilt"]
        assert admin.get(DEVICE).json["incomplete"] == admin.get("stats").json["incomplete"] == incomplete
        admin.post("devices/device_001/telemetry", point())
        merge_all()
        assert admin.get(DEVICE).json["incomplete"] == incomplete
        assert rebuild_counts(connection) == 1
        assert sum(check_point_counts(connection).values()) == 2
        assert read_stored_counts(connection) == count_stored_points(connection)
    stats = admin.get(DEVICE).json
    assert (stats["data_points_count"], stats["last_24h_points"], "incomplete" in stats) == (2, 2, False)


def test_damaged_commit_is_reported_and_not_counted(admin: ApiClient) -> None:
    admin.post("devices/device_001/telemetry", point())
    from metrics.storage.read import block_cache

    with connect() as connection:
        connection.execute("UPDATE metrics_young SET payload = ''")
    block_cache.clear_block_cache()
    stats = admin.get("stats").json
    assert stats["total_data_points"] == 0 and "unmerged block 1" in stats["incomplete"][0]


def test_excess_unmerged_commits_are_reported_as_incomplete(admin: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        admin.post("devices/device_001/telemetry", point())
    monkeypatch.setattr(point_totals, "MAX_UNMERGED_POINTS", 2)
    stats = admin.get("stats").json
    assert stats["total_data_points"] == 2
    assert stats["incomplete"] == ["1 points that wait to be merged are not counted yet"]


def test_expired_hourly_counts_are_deleted(admin: ApiClient) -> None:
    rows = [point(seconds_ago=hours * 3600) for hours in (0, 10, 24, 30)]
    admin.post("devices/device_001/telemetry/batch", {"data_points": rows})
    merge_all()
    with connect() as connection:
        now = int(time.time()) // 3600
        hours = set(read_stored_counts(connection)) - {point_counts.ALL_TIME}
        assert hours == {now, now - 10, now - 24} or hours == {now - 1, now - 11, now - 25}
        connection.execute("UPDATE metrics_count SET hour = hour - 20 WHERE hour > 0")
        delete_expired(connection)
        assert len(read_stored_counts(connection)) == 2  # of all time, and of the hour 20 hours ago
