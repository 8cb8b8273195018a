"""Limits of the rejected inbox: rows, points, bytes and days that a flood may take."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

from ingest.models import Rejected, RejectedPacket
from ingest.rejected import inbox as inbox_module
from ingest.rejected import retention as retention_module
from ingest.rejected.inbox import RejectedInbox
from ingest.rejected.point_packets import RejectedPoint, unpack
from ingest.rejected.retention import apply_retention
from ingest.rejected.write_rows import InboxRow, write_rows
from ingest.tasks import tidy_rejected
from ingest.wire.batch import Batch, Group, RejectionCause, RejectionReason
from metrics.storage.connection import connect


@pytest.fixture
def inbox(site: None) -> Iterator[RejectedInbox]:
    """An inbox that only this test uses."""
    own_inbox = RejectedInbox()
    own_inbox.start()
    yield own_inbox
    own_inbox.stop()


def numeric_batch(count: int, devices: int = 1, metric: str = "m") -> Batch:
    size = count // devices
    groups = [Group(f"d{number}", number * size, (number + 1) * size) for number in range(devices)]
    times = (time.time_ns() // 1000) + np.arange(count)
    return Batch(groups, [metric] * count, times, np.arange(count, dtype=np.float64))


def reject_all(batch: Batch) -> dict[int, RejectionCause]:
    return dict.fromkeys(range(len(batch)), (RejectionReason.OUT_OF_BOUNDS, "value", "too high"))


def test_flood_is_counted_and_the_newest_points_of_a_row_are_kept(inbox: RejectedInbox):
    batch = numeric_batch(3_000)
    inbox.add_batch("s", batch, reject_all(batch))
    inbox.flush()
    row = Rejected.objects.get()
    (packet,) = row.packets.all()
    assert (row.count, packet.points) == (3_000, 1_000)
    assert [point.value for point in unpack(packet.payload)] == list(range(2_000, 3_000))


def test_pending_rows_and_points_are_limited(inbox: RejectedInbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbox_module, "MAX_PENDING_ROWS", 10)
    monkeypatch.setattr(inbox_module, "MAX_PENDING_POINTS", 15)
    for sender in ("s", "t"):
        batch = numeric_batch(100, devices=50)
        inbox.add_batch(sender, batch, reject_all(batch))
    inbox.flush()
    rows = Rejected.objects.all()
    assert len(rows) == 12  # ten separate rows, and one overflow row per sender
    assert sum(row.count for row in rows) == 200
    assert {(row.sender, row.count) for row in rows if not row.device_id} == {("s", 80), ("t", 100)}
    assert sum(packet.points for packet in RejectedPacket.objects.all()) == 15


def test_large_values_are_counted_but_not_kept(inbox: RejectedInbox):
    batch = Batch([Group("d", 0, 40)], ["m"] * 40, np.arange(40), ["x" * 60_000] * 39 + [["x" * 300_000]])
    inbox.add_batch("s", batch, reject_all(batch))
    inbox.flush()
    row = Rejected.objects.get()
    assert row.count == 40 and row.packets.get().points == 4  # at most 256 KiB of values are kept


def test_pending_rows_survive_an_outage_of_postgresql(inbox: RejectedInbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbox_module, "MAX_PENDING_POINTS", 1_500)

    def refuse_connection(**_: Any) -> Any:
        raise psycopg.OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(inbox_module, "connect", refuse_connection)
        for device in range(3):
            batch = numeric_batch(700, metric=f"m{device}")
            inbox.add_batch("s", batch, reject_all(batch))
            inbox.flush()
    inbox.flush()
    assert sorted(Rejected.objects.values_list("metric_name", "count")) == [("m0", 700), ("m1", 700), ("m2", 700)]
    assert sum(RejectedPacket.objects.values_list("points", flat=True)) == 1_500


def inbox_row(metric: str, points: int, last_at: float, start: int = 0) -> InboxRow:
    rejected_points = [RejectedPoint(start + index, float(index), b"") for index in range(points)]
    return InboxRow("s", "d", metric, "out_of_bounds", last_at, last_at, points, "too high", rejected_points)


def test_rows_older_than_thirty_days_are_deleted(site: None):
    now = time.time()
    with connect() as connection:
        write_rows(connection, [inbox_row("new", 1, now - 29 * 86400), inbox_row("old", 1, now - 31 * 86400)])
        assert tidy_rejected() == 1
    assert [row.metric_name for row in Rejected.objects.all()] == ["new"]
    assert RejectedPacket.objects.count() == 1


def test_inbox_is_limited_in_rows_points_and_bytes(site: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention_module, "MAX_ROWS", 3)
    now = time.time()
    with connect() as connection:
        for number in range(5):
            write_rows(connection, [inbox_row(f"m{number}", 10, now - 100 + number)])
        for index in range(30):
            write_rows(connection, [inbox_row("m4", 100, now, start=index * 100)])
        assert apply_retention(connection) == 2
        assert [row.metric_name for row in Rejected.objects.all()] == ["m4", "m3", "m2"]
        packet = RejectedPacket.objects.get(rejected__metric_name="m4")
        assert [point.time for point in unpack(packet.payload)] == list(range(2_000, 3_000))
        monkeypatch.setattr(retention_module, "MAX_BYTES", packet.size)
        apply_retention(connection)
    assert [packet.rejected.metric_name for packet in RejectedPacket.objects.all()] == [
        "m4"
    ]  # the oldest packets are deleted first
    assert Rejected.objects.count() == 3  # the counts are kept
