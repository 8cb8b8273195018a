"""Replay of rejected points after a corrected definition, also against a reference model."""

import contextlib
import time
from collections import defaultdict
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.models import Rejected
from ingest.pipeline import accept
from ingest.rejected.inbox import rejected_inbox
from ingest.rejected.point_packets import unpack
from ingest.rejected.replay import replay
from ingest.wire.batch import Batch, Group, RejectionReason, RequestRejected
from metrics.models import Device, MetricDefinition
from metrics.query.execute import execute_query
from metrics.query.query import Query
from metrics.storage.connection import read_connection
from metrics.storage.units import to_datetime
from rest import caller as access
from tests.conftest import ApiClient, point
from tests.ingest.rejected_points import BATCH, define, redefine, rejected, values


def test_operator_replays_points_after_correcting_the_definition(admin: ApiClient):
    define(max_value=100)
    points = [point("battery", value, ago, unit="%") for ago, value in ((30, 50), (20, 101), (10, 300))]
    admin.post(BATCH, {"data_points": points})
    (row,) = rejected(admin)
    assert admin.post(f"rejected/{row['id']}/replay", {}).json == {
        "replayed": 0,
        "still_rejected": 2,
        "errors": [
            {
                "device_id": "d",
                "metric_name": "battery",
                "reason": "out_of_bounds",
                "detail": f"{value} is above the maximum 100 of battery",
                "count": 1,
            }
            for value in (101, 300)
        ],
        "next": None,
    }
    redefine(max_value=200)
    result = admin.post(f"rejected/{row['id']}/replay", {}).json
    assert (result["replayed"], result["still_rejected"]) == (1, 1)
    assert values(admin) == [50.0, 101.0]  # with their original timestamps
    (row,) = rejected(admin)
    assert (row["count"], row["kept"], row["detail"]) == (1, 1, "300 is above the maximum 200 of battery")
    redefine(max_value=None)
    assert admin.post(f"rejected/{row['id']}/replay", {}).json["replayed"] == 1
    assert rejected(admin) == [] and values(admin) == [50.0, 101.0, 300.0]
    newest = admin.get("devices/d/metrics/battery/latest").json
    assert newest["unit"] == "%" and newest["timestamp"][:19] == points[2]["timestamp"][:19]


def test_replay_is_journaled_with_sender_and_caller(admin: ApiClient):
    define(max_value=100)
    admin.post("devices/d/telemetry", point("battery", 101))
    (row,) = rejected(admin)
    redefine(max_value=200)
    admin.post("rejected/replay", {"device_id": "d"})
    with read_connection() as connection:
        (entries,) = connection.execute("SELECT entries FROM metrics_journal ORDER BY seq DESC LIMIT 1").fetchone()
    assert f"{row['sender']} (replayed by key:" in entries


def test_points_rejected_for_another_reason_move_to_that_row(admin: ApiClient):
    define("m", data_type="boolean")
    admin.post(BATCH, {"data_points": [point("m", 5), point("m", 500, 1), point("m", "x", 2)]})
    rejected_inbox().flush()
    redefine("m", data_type="numeric", max_value=100)
    result = admin.post("rejected/replay", {"metric_name": "m"}).json
    assert (result["replayed"], result["still_rejected"]) == (1, 2)
    assert {(row["reason"], row["count"], row["kept"]) for row in rejected(admin)} == {
        ("out_of_bounds", 1, 1),
        ("wrong_type", 1, 1),
    }


def test_replay_can_be_limited_to_a_device_or_a_metric(admin: ApiClient):
    define(max_value=100)
    for device_id in ("d", "e"):
        admin.post(f"devices/{device_id}/telemetry", point("battery", 101))
    rejected_inbox().flush()
    redefine(max_value=200)
    assert admin.post("rejected/replay", {"device_id": "d"}).json["replayed"] == 1
    assert [row["device_id"] for row in rejected(admin)] == ["e"]
    assert admin.post("rejected/replay", {"metric_name": "other"}).json["replayed"] == 0
    assert admin.post("rejected/replay", {}).json["replayed"] == 1


def test_replay_over_the_limit_returns_where_to_continue(admin: ApiClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ingest.rejected.replay.MAX_REPLAY_POINTS", 2)
    define(max_value=100)
    for number in range(5):
        admin.post(f"devices/{number}/telemetry", point("battery", 101))
    rejected_inbox().flush()
    redefine(max_value=200)
    replayed, after = [], 0
    while after is not None:
        result = admin.post("rejected/replay", {"after": after}).json
        replayed.append(result["replayed"])
        after = result["next"]
    assert replayed == [2, 2, 1] and rejected(admin) == []


def test_replay_after_a_crash_between_commit_and_removal_stores_points_once(
    admin: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    define(max_value=100)
    admin.post("devices/d/telemetry", point("battery", 101))
    rejected_inbox().flush()
    redefine(max_value=200)
    with monkeypatch.context() as patch:
        patch.setattr(
            "ingest.rejected.replay.replace_points", lambda *_: (_ for _ in ()).throw(psycopg.OperationalError)
        )
        assert admin.post("rejected/replay", {}).status == 503
    assert values(admin) == [101.0] and [row["kept"] for row in rejected(admin)] == [1]
    assert admin.post("rejected/replay", {}).json["replayed"] == 1
    assert values(admin) == [101.0] and rejected(admin) == []


def test_points_that_arrive_during_a_replay_are_kept(admin: ApiClient, monkeypatch: pytest.MonkeyPatch):
    define(max_value=100)
    admin.post("devices/d/telemetry", point("battery", 101, 10))
    rejected_inbox().flush()

    def accept_after_another_point(*args: Any, **kwargs: Any) -> Any:
        admin.post("devices/d/telemetry", point("battery", -(10**6), 5))
        rejected_inbox().flush()
        return accept(*args, **kwargs)

    redefine(min_value=0, max_value=200)
    monkeypatch.setattr("ingest.rejected.replay.accept", accept_after_another_point)
    assert admin.post("rejected/replay", {"device_id": "d"}).json["replayed"] == 1
    (row,) = rejected(admin)
    assert (row["count"], row["kept"]) == (1, 1)


# --- against a dictionary -----------------------------------------------------------------------------


VALUES = st.one_of(st.integers(-50, 150).map(float), st.booleans(), st.sampled_from(["x", "y"]))
SENT_POINTS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["level", "open"]), st.integers(0, 5), VALUES))
SentPoint = tuple[str, str, int, Any]


def batch_of(points: list[SentPoint], start: int) -> Batch:
    groups: list[Group] = []
    ordered = sorted(points, key=lambda item: item[0])
    for device_id in sorted({item[0] for item in points}):
        first = groups[-1].stop if groups else 0
        groups.append(Group(device_id, first, first + sum(item[0] == device_id for item in points)))
    values: Any = [item[3] for item in ordered]
    if all(type(value) is float for value in values):
        values = np.array(values)
    times = np.array([start + item[2] * 1_000_000 for item in ordered], np.int64)
    return Batch(groups, [item[1] for item in ordered], times, values)


def expected_reason(metric: str, value: Any, highest: float, open_is: type) -> RejectionReason | None:
    if metric == "open":
        return None if type(value) is open_is else RejectionReason.WRONG_TYPE
    if type(value) is not float:
        return RejectionReason.WRONG_TYPE
    return None if 0 <= value <= highest else RejectionReason.OUT_OF_BOUNDS


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(SENT_POINTS, min_size=1, max_size=4), highest=st.integers(0, 150))
def test_inbox_and_replay_match_a_reference_model(site: None, batches: Any, highest: int):
    Rejected.objects.all().delete()
    MetricDefinition.objects.all().delete()
    names = {name: f"{name}{Device.objects.count()}" for name in "ab"}
    start = (time.time_ns() // 1000) - 3_600_000_000
    define("level", min_value=0, max_value=100)
    define("open", data_type="boolean")
    stored: dict[tuple[str, str, int], Any] = {}
    kept: dict[tuple[str, str, RejectionReason], list[SentPoint]] = defaultdict(list)
    for number, batch in enumerate(batches):
        # Values of "open" change their data type, so each has its own time; values of "level" may be overwritten.
        sent = [
            (names[device], metric, 10 + 100 * number + number_in_batch if metric == "open" else second, value)
            for number_in_batch, (device, metric, second, value) in enumerate(batch[:100])
        ]
        if not sent:
            continue
        with contextlib.suppress(RequestRejected):
            accept(batch_of(sent, start), access.Caller.internal("test"))
        for item in sorted(sent, key=lambda item: item[0]):
            reason = expected_reason(item[1], item[3], 100, bool)
            if reason is None:
                stored[item[:3]] = item[3]
            else:
                kept[item[0], item[1], reason].append(item)
    rejected_inbox().flush()
    assert inbox_content(start) == {key: [item[2:] for item in points] for key, points in kept.items()}

    redefine("level", max_value=highest)
    redefine("open", data_type="string")
    replay(list(Rejected.objects.order_by("pk").values_list("pk", flat=True)), access.Caller.internal("test"))
    remaining: dict[tuple[str, str, RejectionReason], list[SentPoint]] = defaultdict(list)
    for (device, metric, _), points in kept.items():
        for item in points:
            reason = expected_reason(metric, item[3], highest, str)
            if reason is None:
                stored[item[:3]] = item[3]
            else:
                remaining[device, metric, reason].append(item)
    assert inbox_content(start) == {key: [item[2:] for item in points] for key, points in remaining.items()}
    returned: dict[tuple[str, str, int], Any] = {}
    for device in names.values():
        for metric in ("level", "open"):
            between = (to_datetime(start), to_datetime(start + 10**9))
            for group in execute_query(Query((metric,), *between, devices=(device,))).series:
                seconds = [(at - start) // 1_000_000 for at in group.times]
                returned |= {
                    (device, metric, second): value for second, value in zip(seconds, group.values, strict=True)
                }
    assert returned == stored


def inbox_content(start: int) -> dict[tuple[str, str, RejectionReason], list[tuple[int, Any]]]:
    content = {}
    for row in Rejected.objects.all():
        points = [point for packet in row.packets.order_by("pk") for point in unpack(packet.payload)]
        assert row.count == len(points)
        seconds = [((point.time - start) // 1_000_000, point.value) for point in points]
        content[row.device_id, row.metric_name, RejectionReason(row.reason)] = seconds
    return content
