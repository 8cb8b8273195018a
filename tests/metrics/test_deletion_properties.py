"""Reads match a model after any order of deletions, writes and merges."""

from datetime import timedelta

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from metrics.devices import delete_device
from metrics.models import Deletion, Device, Revision, Series
from metrics.query import latest
from metrics.storage.connection import connect
from metrics.storage.errors import DeviceDeleted
from metrics.storage.merge import schedule as merge
from metrics.storage.read import block_cache
from metrics.storage.units import to_datetime
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from tests.metrics.deletion_steps import ADMIN, count_points_by_table
from tests.metrics.point_count_checks import check_point_counts
from tests.metrics.stored_points import read_stored_parts
from tests.metrics.test_storage import DAY, NOW, TODAY, points_by_key

DEVICES = range(4)
Key = tuple[int, int]


class DeletionMachine(RuleBasedStateMachine):
    """Writes, writes with outdated series, merges, deletions and point deletions in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = connect()
        self.connection.execute(
            "TRUNCATE metrics_young, metrics_block, metrics_rollup, metrics_latest, metrics_journal, metrics_count,"
            " metrics_deletion, metrics_device CASCADE; UPDATE metrics_head SET seq = 0, checksum = '';"
            " UPDATE metrics_merged SET seq = 0",
            prepare=False,
        )
        block_cache.clear_block_cache()
        self.generation = dict.fromkeys(DEVICES, 0)
        self.model: dict[Key, float] = {}
        self.deleted_series: dict[int, int] = {}  # by series: the last revision at which it existed
        for device in DEVICES:
            self._create_device(device)

    def _series(self, device: int) -> list[int]:
        """Return the series of a device: one in each of two buckets."""
        return [bucket * 256 + device + 8 * self.generation[device] for bucket in (0, 1)]

    def _create_device(self, device: int) -> None:
        row = Device.objects.create(device_id=f"d{device}")
        for series in self._series(device):
            Series.objects.create(pk=series, device=row, metric_name=f"m{series // 256}", kind=0)

    def _store(self, rows: list[tuple[int, int, float]], series_revision: int) -> None:
        series, times, values = (np.array(column) for column in zip(*rows, strict=True))
        arrivals = IncomingPoints(series.astype(np.int64), times.astype(np.int64), values.astype(np.float64))
        writer().submit([arrivals], JournalEntry("test", 0.0, len(rows)), series_revision=series_revision)

    @rule(
        rows=st.lists(
            st.tuples(st.sampled_from(DEVICES), st.integers(0, 1), st.integers(0, 3), st.integers(-5, 5)), min_size=1
        ),
        day=st.integers(-1, 0),
    )
    def write(self, rows, day):
        points = [
            (self._series(device)[bucket], TODAY + day * DAY + hour * 3_600_000_000, float(value))
            for device, bucket, hour, value in rows
        ]
        self._store(points, Revision.objects.get().number)
        self.model |= {(series, time): value for series, time, value in points}

    @rule(data=st.data())
    def write_late(self, data):
        if self.deleted_series:
            series = data.draw(st.sampled_from(sorted(self.deleted_series)))
            with pytest.raises(DeviceDeleted):
                self._store([(series, TODAY, 9.0), (self._series(0)[0], TODAY, 9.0)], self.deleted_series[series])

    @rule(device=st.sampled_from(DEVICES))
    def delete(self, device):
        revision = Revision.objects.get().number
        series = self._series(device)
        delete_device.delete_device(f"d{device}", ADMIN)
        self.deleted_series |= dict.fromkeys(series, revision)
        self.model = {key: value for key, value in self.model.items() if key[0] not in series}
        self.generation[device] += 1
        self._create_device(device)

    @rule(mode=st.sampled_from(["commits", "forced", "everything", "killed"]))
    def merge(self, mode):
        if mode == "commits":
            merge._merge_commits_once(self.connection, 0, force=True)
        elif mode == "forced":
            merge.merge_commits(self.connection, force=True)
        elif mode == "everything":
            merge.merge_days(self.connection, force=True, now=NOW)
        else:
            with connect() as other, other.transaction(force_rollback=True):
                merge.merge_commits(other, force=True)
                merge.merge_days(other, force=True, now=NOW)

    @rule(mode=st.sampled_from(["once", "step", "killed"]))
    def remove(self, mode):
        if mode == "once":
            delete_device.run_deletions(self.connection)
        elif mode == "step":
            delete_device._begin(self.connection)
            delete_device._step(self.connection)
        else:
            with connect() as other, other.transaction(force_rollback=True):
                delete_device.run_deletions(other)

    @invariant()
    def reads_match_the_model(self):
        series_ids = [series for device in DEVICES for series in self._series(device)]
        points = points_by_key(read_stored_parts(series_ids, TODAY - 4 * DAY, TODAY + 3 * DAY))
        assert {key: value for key, (value, _) in points.items() if key[0] in series_ids} == self.model
        check_point_counts(self.connection)
        newest = {}
        for series, time in sorted(self.model):
            newest[f"d{series % 8}", f"m{series // 256}"] = self.model[series, time]
        latest_points = latest.read_latest_points(None, None, timedelta(days=10), now=to_datetime(TODAY + DAY)).points
        assert {
            (latest_point.device_id, latest_point.metric_name): latest_point.value for latest_point in latest_points
        } == newest

    def teardown(self) -> None:
        merge.merge_commits(self.connection, force=True)
        while delete_device.run_deletions(self.connection):
            pass
        assert set(Deletion.objects.values_list("status", flat=True)) <= {"done"}
        assert count_points_by_table(set(self.deleted_series)) == {}
        self.reads_match_the_model()
        self.connection.close()


@pytest.mark.slow
def test_reads_match_the_model_after_any_order_of_deletions_writes_and_merges(site):
    run_state_machine_as_test(
        DeletionMachine,
        settings=settings(
            max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
