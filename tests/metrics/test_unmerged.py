"""Unmerged commits are cached in groups, and reads return the same as without the cache."""

import random

import pytest

from metrics.storage.connection import connect
from metrics.storage.format.layout import COMMIT_GROUP
from metrics.storage.merge import schedule
from metrics.storage.read import block_cache, unmerged
from tests.metrics.stored_points import read_stored_parts
from tests.metrics.test_damage import flip_payload_byte
from tests.metrics.test_storage import DAY, SERIES, TODAY, points_by_key, read_latest_points, shards, store_points

__all__ = ["shards"]
SECOND = 1_000_000
Points = dict[tuple[int, int], tuple[object, bytes]]


def read_all_points(damaged: list[str] | None = None) -> Points:
    return points_by_key(read_stored_parts(SERIES, TODAY - 4 * DAY, TODAY + 3 * DAY, damaged))


def count_cached_groups() -> int:
    """Count the cached groups."""
    return sum(source == COMMIT_GROUP for source, _ in block_cache.decoded_blocks._blocks)


def latest_points_of(points: Points) -> Points:
    last = dict(sorted(points))
    return {(series, time): points[series, time] for series, time in last.items()}


def commit_points(number: int, rng: random.Random) -> Points:
    """Store a commit of some series, sometimes days late; later commits overwrite some points."""
    selected = rng.sample(SERIES, rng.randint(1, len(SERIES)))
    day = rng.choice([0, 0, 0, -1, -3])
    rows = [(series_id, TODAY + day * DAY + rng.randint(0, 40) * SECOND, float(number), b"") for series_id in selected]
    store_points(rows)
    return {(series, time): (value, entry) for series, time, value, entry in rows}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_reads_of_many_unmerged_commits_match_the_model_during_merges(seed, shards, site, monkeypatch):
    monkeypatch.setattr(schedule, "MAX_MERGE_POINTS", 30)  # so that a merge ends inside a group
    rng, model, max_cached_groups = random.Random(seed), {}, 0
    with connect() as connection:
        for number in range(120):
            model |= commit_points(number, rng)
            if number % 7 == 0:
                assert read_all_points() == model
                assert points_by_key(read_latest_points(TODAY - 4 * DAY)) == latest_points_of(model)
                max_cached_groups = max(max_cached_groups, count_cached_groups())
            if number % 40 == 39:
                for shard in range(shards):
                    schedule._merge_commits_once(connection, shard, force=True)
    assert max_cached_groups > 1


def test_merged_commits_are_not_read_from_a_cached_group(site):
    for number in range(unmerged.GROUP_COMMITS * 2):
        store_points([(1, TODAY + number * SECOND, 1.0, b"")])
    assert len(read_all_points()) == unmerged.GROUP_COMMITS * 2
    assert count_cached_groups() == 1  # the first commit has number 1
    with connect() as connection:
        connection.execute(
            "UPDATE metrics_merged SET seq = %s", (unmerged.GROUP_COMMITS + 2,)
        )  # the merged commits are deleted
    times = [(time - TODAY) // SECOND for _, time in read_all_points()]
    assert sorted(times) == list(range(unmerged.GROUP_COMMITS + 2, unmerged.GROUP_COMMITS * 2))


def test_damaged_commit_is_left_out_of_its_group_and_named_by_every_read(site):
    for number in range(unmerged.GROUP_COMMITS * 2):
        store_points([(1, TODAY + number * SECOND, 1.0, b"")])
    with connect() as connection:
        flip_payload_byte(connection, "metrics_young", 0, unmerged.GROUP_COMMITS + 3)
    for _ in range(2):
        damaged: list[str] = []
        assert len(read_all_points(damaged)) == unmerged.GROUP_COMMITS * 2 - 1
        assert damaged == [f"unmerged block {unmerged.GROUP_COMMITS + 3}"]


def test_groups_of_large_commits_are_not_cached(site, monkeypatch):
    monkeypatch.setattr(unmerged, "MAX_GROUP_POINTS", unmerged.GROUP_COMMITS * 2 - 1)
    for number in range(unmerged.GROUP_COMMITS * 2):
        store_points([(series, TODAY + number * SECOND, 1.0, b"") for series in (1, 2)])
    assert len(read_all_points()) == unmerged.GROUP_COMMITS * 2
    assert count_cached_groups() == 0


def test_late_point_in_a_group_does_not_mark_the_days_in_between(site):
    for number in range(unmerged.GROUP_COMMITS):
        store_points([(1, TODAY - (300 * DAY if number == 5 else 0) + number, 1.0, b"")])
    with connect() as connection:
        parameters = {"start": TODAY - 400 * DAY, "end": TODAY + DAY, "shards": [0]}
        rows = [unmerged.CommitGroup(*row) for row in connection.execute(unmerged.UNMERGED_COMMITS, parameters)]
    assert all(row.time_to - row.time_from < DAY for row in rows)
