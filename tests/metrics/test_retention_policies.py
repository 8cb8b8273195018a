"""Retention policies: points and rollups of each metric are kept as its policy says, whatever changes."""

from collections import Counter
from datetime import UTC, datetime
from io import StringIO

import numpy as np
import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from metrics.models import MetricDefinition
from metrics.storage.connection import connect
from metrics.storage.format.rollup_codec import decode_rollup
from metrics.storage.locks import lock_day
from metrics.storage.merge import schedule
from metrics.storage.merge.apply_retention_policy import regroup_rows
from metrics.storage.merge.retention import delete_expired, find_expired
from metrics.storage.merge.retention_policies import DEFAULT_POLICY, RetentionPolicy, is_day_expired
from metrics.storage.merge.rollups import FIVE_MINUTES, ONE_HOUR
from metrics.storage.read import block_cache
from metrics.storage.read.merge_backlog import read_worker_backlog
from metrics.storage.units import SECOND
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from tests.metrics.point_count_checks import check_point_counts
from tests.metrics.stored_points import read_stored_parts

DAY = 86_400_000_000
FIRST_DAY = 20_000  # the first day of these tests, in the past
SERIES = {1: "a", 2: "b", 3: "a", 4: "b"}  # in one bucket, with alternating policies
DAYS = st.integers(1, 6)


@pytest.fixture
def series(site):
    with connect() as connection:
        for number, metric in SERIES.items():
            connection.execute(
                "INSERT INTO metrics_device (id, device_id, name, created_at) VALUES (%s, %s, '', now())",
                (number, f"d{number}"),
            )
            connection.execute("INSERT INTO metrics_series VALUES (%s, %s, 0, %s)", (number, metric, number))
        yield connection


def write_points(points: dict[tuple[int, int], float]) -> None:
    """Store values by (series, time)."""
    numbers, times = (np.array(column, np.int64) for column in zip(*points, strict=True))
    values = np.array(list(points.values()), np.float64)
    writer().submit([IncomingPoints(numbers, times, values)], JournalEntry("test", 0.0, len(points)))


class RetentionMachine(RuleBasedStateMachine):
    """Days pass; points arrive, day blocks are made, policies change, and workers delete expired rows."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = connect()
        self.connection.execute(
            "TRUNCATE metrics_young, metrics_block, metrics_rollup, metrics_latest, metrics_journal, metrics_groupedby,"
            " metrics_count, metrics_metricdefinition; UPDATE metrics_head SET seq = 0, checksum = '';"
            " UPDATE metrics_merged SET seq = 0",
            prepare=False,
        )
        block_cache.clear_block_cache()
        self.today = FIRST_DAY
        self.points: dict[tuple[int, int], float] = {}
        self.rollup_rows: dict[tuple[int, int, int], int] = {}  # points by (resolution, series, day)

    @property
    def now(self) -> float:
        return self.today * 86_400.0 + 3600

    def policy(self, series: int) -> RetentionPolicy:
        definition = MetricDefinition.objects.filter(name=SERIES[series]).first()
        return (
            RetentionPolicy(definition.retention_days, definition.rollup_5m_days, definition.rollup_1h_days)
            if definition
            else DEFAULT_POLICY
        )

    def rollup_retention(self, series: int, resolution: int) -> int:
        policy = self.policy(series)
        return max(policy.points, policy.minutes if resolution == FIVE_MINUTES else policy.hours)

    @rule(days=st.integers(1, 4))
    def advance_days(self, days):
        self.today += days

    @rule(metric=st.sampled_from(["a", "b"]), points=DAYS, minutes=DAYS, hours=DAYS)
    def define(self, metric, points, minutes, hours):
        MetricDefinition.objects.update_or_create(
            name=metric,
            defaults={
                "data_type": "numeric",
                "retention_days": points,
                "rollup_5m_days": minutes,
                "rollup_1h_days": max(minutes, hours),
            },
        )

    @rule(metric=st.sampled_from(["a", "b"]))
    def undefine(self, metric):
        MetricDefinition.objects.filter(name=metric).delete()

    @rule(age=st.integers(0, 7), rows=st.dictionaries(st.sampled_from(sorted(SERIES)), st.integers(0, 23), min_size=1))
    def send(self, age, rows):
        """Store points like the pipeline, which rejects points older than the retention of their metric."""
        day = self.today - age
        accepted = {
            (series, day * DAY + hour * 3_600_000_000): float(hour)
            for series, hour in rows.items()
            if age < self.policy(series).points
        }
        if not accepted:
            return
        write_points(accepted)
        self.points |= accepted
        schedule.merge_commits(self.connection, force=True)
        schedule.merge_days(self.connection, force=True, now=self.now)
        for series, time in accepted:
            count = sum(number == series and time_of_point // DAY == day for number, time_of_point in self.points)
            for resolution in (FIVE_MINUTES, ONE_HOUR):
                self.rollup_rows[resolution, series, time // DAY] = count

    @rule(killed=st.booleans())
    def clean_up(self, killed):
        if killed:
            with connect() as other, other.transaction(force_rollback=True):
                regroup_rows(other)
                delete_expired(other, self.now)
        regroup_rows(self.connection)
        reported = {
            (expired.table, expired.kept_days): expired.rows for expired in find_expired(self.connection, self.now)
        }
        old_counts = self._count_rows()
        delete_expired(self.connection, self.now)
        block_cache.clear_block_cache()
        deleted = {key: count - self._count_rows().get(key, 0) for key, count in old_counts.items()}
        assert {key: count for key, count in deleted.items() if count} == reported
        self.points = {
            key: value
            for key, value in self.points.items()
            if not is_day_expired(key[1] // DAY, self.policy(key[0]).points, self.now)
        }
        self.rollup_rows = {
            (resolution, series, day): count
            for (resolution, series, day), count in self.rollup_rows.items()
            if not is_day_expired(day, self.rollup_retention(series, resolution), self.now)
        }

    def _count_rows(self) -> dict[tuple[str, int], int]:
        return {
            (table, keep): count
            for table in ("metrics_block", "metrics_rollup")
            for keep, count in self.connection.execute(f"SELECT keep, count(*) FROM {table} GROUP BY keep")
        }

    @invariant()
    def retained_points_match_the_model(self):
        stored = {
            (int(series), int(time)): float(value)
            for part in read_stored_parts(list(SERIES), 0, (self.today + 2) * DAY)
            for series, time, value in zip(part.series(), part.times, part.values, strict=True)
        }
        assert stored == self.points

    @invariant()
    def stored_counts_match_the_points(self):
        assert check_point_counts(self.connection) == Counter(series for series, _ in self.points)

    @invariant()
    def retained_rollups_match_the_model(self):
        stored: dict[tuple[int, int, int], int] = {}
        for resolution, day, payload in self.connection.execute(
            "SELECT resolution, day, payload FROM metrics_rollup", binary=True
        ):
            rollup = decode_rollup(payload, resolution * SECOND)
            counts = np.add.reduceat(rollup.stats["count"], rollup.offsets[:-1])
            for series, count in zip(rollup.ids.tolist(), counts.tolist(), strict=True):
                assert (resolution, series, day) not in stored
                stored[resolution, series, day] = count
        assert stored == self.rollup_rows

    def teardown(self) -> None:
        self.connection.close()


@pytest.mark.slow
def test_metrics_are_kept_by_their_policy_through_any_changes(series, monkeypatch):
    monkeypatch.setattr("metrics.storage.merge.rollups.MIN_POINTS_PER_5M", 0)
    run_state_machine_as_test(
        RetentionMachine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def merge_all(connection, now: float) -> None:
    schedule.merge_commits(connection, force=True)
    schedule.merge_days(connection, force=True, now=now)


def test_metrics_with_different_retention_are_stored_in_separate_rows(series):
    MetricDefinition.objects.create(name="a", data_type="numeric", retention_days=7)
    write_points({(number, FIRST_DAY * DAY): 1.0 for number in SERIES})
    merge_all(series, (FIRST_DAY + 1) * 86_400.0)
    rows = series.execute("SELECT keep, points FROM metrics_block ORDER BY keep").fetchall()
    assert rows == [(7, 2), (90, 2)]


def test_no_rows_expire_until_a_changed_policy_is_applied(series):
    MetricDefinition.objects.create(name="a", data_type="numeric", retention_days=2)
    write_points({(number, FIRST_DAY * DAY): 1.0 for number in SERIES})
    merge_all(series, (FIRST_DAY + 1) * 86_400.0)
    regroup_rows(series)
    MetricDefinition.objects.update(retention_days=100)
    late = (FIRST_DAY + 50) * 86_400.0
    with connect() as other, other.transaction():
        assert lock_day(other, 0, FIRST_DAY)  # as a running merge does
        assert regroup_rows(series) == 0
        assert delete_expired(series, late) == 0
    assert regroup_rows(series) == 1
    assert delete_expired(series, late) == 0
    assert delete_expired(series, (FIRST_DAY + 101) * 86_400.0) == 2


def test_day_written_under_a_reverted_policy_is_kept_by_the_current_policy(series):
    MetricDefinition.objects.create(name="a", data_type="numeric", retention_days=2)
    write_points({(number, FIRST_DAY * DAY): 1.0 for number in SERIES})
    merge_all(series, (FIRST_DAY + 1) * 86_400.0)
    MetricDefinition.objects.all().delete()  # before the rows were regrouped
    late = (FIRST_DAY + 50) * 86_400.0
    assert delete_expired(series, late) == 0
    regroup_rows(series)
    assert delete_expired(series, late) == 0
    assert delete_expired(series, (FIRST_DAY + 91) * 86_400.0) == 2


def test_worker_with_zero_budget_regroups_one_day_per_run(series):
    for day in range(4):
        write_points({(number, (FIRST_DAY + day) * DAY): 1.0 for number in SERIES})
    merge_all(series, (FIRST_DAY + 5) * 86_400.0)
    MetricDefinition.objects.create(name="a", data_type="numeric", retention_days=7)
    runs = 0
    while regroup_rows(series, budget=0.0):
        runs += 1
    assert runs == 4
    rows = series.execute(
        "SELECT keep, count(*), sum(points) FROM metrics_block GROUP BY keep ORDER BY keep"
    ).fetchall()
    assert rows == [(7, 4, 8), (90, 4, 8)]
    assert regroup_rows(series) == 0


def test_backlog_lists_unmerged_days_policies_and_expired_rows(series):
    write_points({(1, FIRST_DAY * DAY): 1.0, (2, FIRST_DAY * DAY): 1.0})
    backlog = read_worker_backlog(series)
    assert (backlog.commits, backlog.points, backlog.days_to_make, backlog.policies_to_apply) == (1, 2, 0, [])
    schedule.merge_commits(series, force=True)
    MetricDefinition.objects.create(name="a", data_type="numeric", retention_days=7)
    backlog = read_worker_backlog(series)
    assert (backlog.commits, backlog.points, backlog.days_to_make, backlog.policies_to_apply) == (0, 0, 1, ["a"])
    output = StringIO()
    call_command("storage", stdout=output)
    assert "days to merge: 1" in output.getvalue() and "policies to apply: a" in output.getvalue()
    schedule.merge_days(series, force=True)
    regroup_rows(series)
    assert read_worker_backlog(series).rows_to_drop == 2
    delete_expired(series)
    backlog = read_worker_backlog(series)
    assert (backlog.days_to_make, backlog.policies_to_apply, backlog.rows_to_drop) == (0, [], 0)


def test_retention_dry_run_lists_expired_rows_and_deletes_none(series):
    write_points({(1, FIRST_DAY * DAY): 1.0, (2, FIRST_DAY * DAY + 1): 2.0})
    merge_all(series, (FIRST_DAY + 1) * 86_400.0)
    output = StringIO()
    call_command("retention", "--dry-run", stdout=output)
    day = datetime.fromtimestamp(FIRST_DAY * 86_400, UTC)
    assert f"2 points of {day:%Y-%m-%d} to {day:%Y-%m-%d}, kept 90 days: 1 rows" in output.getvalue()
    assert series.execute("SELECT count(*) FROM metrics_block").fetchone() == (1,)
    call_command("retention", stdout=StringIO())
    assert series.execute("SELECT count(*) FROM metrics_block").fetchone() == (0,)
