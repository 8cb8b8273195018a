"""The rejected inbox: counts by sender, series and reason, and replay of rejected points."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.models import Rejected, RejectedPacket
from ingest.pipeline import accept
from ingest.rejected import inbox as inbox_module
from ingest.rejected import retention as retention_module
from ingest.rejected.inbox import RejectedInbox, rejected_inbox
from ingest.rejected.point_packets import RejectedPoint, unpack
from ingest.rejected.replay import replay
from ingest.rejected.retention import apply_retention
from ingest.rejected.write_rows import InboxRow, write_rows
from ingest.tasks import tidy_rejected
from ingest.wire.batch import Batch, Group, RejectionCause, RejectionReason, RequestRejected
from metrics.models import Device, DeviceGroup, MetricDefinition
from metrics.query.execute import execute_query
from metrics.query.query import Query
from metrics.storage import series_registry
from metrics.storage.connection import connect, read_connection
from metrics.storage.units import to_datetime
from rest import caller as access
from tests.conftest import ApiClient, point

BATCH = "devices/d/telemetry/batch"


def define(name: str = "battery", **fields: Any) -> MetricDefinition:
    definition = MetricDefinition.objects.create(**{"name": name, "data_type": "numeric"} | fields)
    series_registry.refresh_registry()
    return definition


def redefine(name: str = "battery", **changes: Any) -> None:
    definition = MetricDefinition.objects.get(name=name)
    for field, value in changes.items():
        setattr(definition, field, value)
    definition.save()


def rejected(caller: ApiClient, **filters: str) -> list[dict[str, Any]]:
    rejected_inbox().flush()
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    return caller.get(f"rejected?{query}").json["rejected"]


def values(caller: ApiClient, device_id: str = "d", metric: str = "battery") -> list[Any]:
    response = caller.get(f"devices/{device_id}/metrics/{metric}/range?time_range=1h").json
    return [row["value"] for row in response["data_points"]]


@pytest.fixture(params=["fast lane", "views"])
def sender(request: pytest.FixtureRequest, site: None) -> ApiClient:
    return request.getfixturevalue("admin" if request.param == "fast lane" else "administrator")


def test_rejected_points_are_kept_by_sender_series_and_reason(sender: ApiClient, admin: ApiClient):
    define(min_value=0, max_value=100)
    points = [point("battery", value, ago) for ago, value in enumerate((50, -1, 101, 140))]
    assert sender.post(BATCH, {"data_points": points}).json["failed_count"] == 3
    (row,) = rejected(admin)
    assert row["sender"].startswith(("key:", "user:"))
    assert (row["device_id"], row["metric_name"], row["reason"]) == ("d", "battery", "out_of_bounds")
    assert (row["count"], row["kept"]) == (3, 3)
    assert row["detail"] == "140 is above the maximum 100 of battery"
    assert row["first_at"] <= row["last_at"]


def test_each_reason_has_its_code(sender: ApiClient, admin: ApiClient):
    define("battery", min_value=0)
    define("open", data_type="boolean")
    points = [
        point("battery", -1),
        point("open", "yes"),
        point("temperature", 1, seconds_ago=-3600),
        point("temperature", 1, seconds_ago=100 * 86400),
        point("temperature", None),
        point("temperature", 1),
    ]
    assert sender.post(BATCH, {"data_points": points}).json["failed_count"] == 5
    assert {(row["metric_name"], row["reason"], row["kept"]) for row in rejected(admin)} == {
        ("battery", "out_of_bounds", 1),
        ("open", "wrong_type", 1),
        ("temperature", "too_early", 1),
        ("temperature", "too_old", 1),
        ("", "unreadable", 0),
    }


def test_points_of_a_fully_rejected_batch_are_kept(sender: ApiClient, admin: ApiClient):
    define(max_value=100)
    assert sender.post("devices/d/telemetry", point("battery", 101)).status == 422
    assert [(row["device_id"], row["count"]) for row in rejected(admin)] == [("d", 1)]


def test_points_of_unknown_series_can_be_replayed_after_definition(sender: ApiClient, admin: ApiClient, settings: Any):
    settings.CREATE_ON_FIRST_SIGHT = False
    Device.objects.create(device_id="d")
    assert sender.post(BATCH, {"data_points": [point("battery", 50)]}).status == 422
    (row,) = rejected(admin)
    assert row["reason"] == "undefined"
    define()
    assert admin.post(f"rejected/{row['id']}/replay", {}).json["replayed"] == 1
    assert values(admin) == [50.0] and rejected(admin) == []


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"data_points": 5}', b"\xff", b'{"data_points": []}'])
def test_invalid_request_is_counted_but_not_kept(sender: ApiClient, admin: ApiClient, body: bytes):
    for _ in range(3):
        assert sender.post(BATCH, body).status in (400, 422)
    (row,) = rejected(admin)
    assert (row["device_id"], row["reason"], row["count"], row["kept"]) == ("d", "unreadable", 3, 0)
    assert not RejectedPacket.objects.exists()


def test_invalid_names_are_counted_under_an_empty_name(sender: ApiClient, admin: ApiClient):
    response = sender.post("bulk", {"a\0b": [point("m")], "d": [point("x\0y"), point("m")]})
    assert response.json["failed_count"] == 2
    assert {(row["device_id"], row["reason"], row["kept"]) for row in rejected(admin)} == {
        ("", "unreadable", 0),
        ("d", "unreadable", 0),
    }


def test_points_without_write_permission_are_counted_but_not_replayed(device: ApiClient, admin: ApiClient):
    response = device.post("bulk", {"device_001": [point("m")], "other": [point("m"), point("m")]})
    assert response.json["ingested_count"] == 1
    (row,) = rejected(admin)
    assert (row["device_id"], row["reason"], row["count"], row["kept"]) == ("other", "not_allowed", 2, 0)
    assert admin.post(f"rejected/{row['id']}/replay", {}).json["replayed"] == 0
    assert not Device.objects.filter(device_id="other").exists()


def test_row_returns_its_points_as_sent(admin: ApiClient):
    define(max_value=100)
    sent = point("battery", 101.5, 60, unit="%", tags={"room": "1"}, metadata={"firmware": "2"})
    admin.post("devices/d/telemetry", sent)
    (row,) = rejected(admin)
    (returned,) = admin.get(f"rejected/{row['id']}").json["points"]
    assert returned.pop("timestamp")[:23] == sent["timestamp"][:23]
    assert returned == {"value": 101.5, "unit": "%", "tags": {"room": "1"}, "metadata": {"firmware": "2"}}


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


def test_dismissing_a_row_deletes_its_points(admin: ApiClient):
    define(max_value=100)
    admin.post("devices/d/telemetry", point("battery", 101))
    (row,) = rejected(admin)
    assert admin.call("DELETE", f"rejected/{row['id']}").json["success"]
    assert rejected(admin) == [] and not RejectedPacket.objects.exists()
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
        assert admin.call(method, f"rejected/{row['id']}{path}").status == 404


def test_rejected_list_is_filtered_and_paged(admin: ApiClient, gateway: ApiClient):
    define(max_value=100)
    define("open", data_type="boolean")
    admin.post("devices/a/telemetry", point("battery", 101))
    gateway.post("devices/b/telemetry", point("open", 5))
    rejected_inbox().flush()
    assert {row["device_id"] for row in rejected(admin)} == {"a", "b"}
    assert [row["device_id"] for row in rejected(admin, device_id="a")] == ["a"]
    assert [row["device_id"] for row in rejected(admin, metric_name="open")] == ["b"]
    (row,) = rejected(admin, reason="wrong_type")
    assert [match["id"] for match in rejected(admin, sender=row["sender"].replace(" ", "%20"))] == [row["id"]]
    page = admin.get("rejected?limit=1&offset=1").json
    assert (page["count"], page["total"]) == (1, 2)
    assert admin.get("rejected?reason=bad").status == 400


BAD = [
    ("GET", "rejected/99999999999999999999", None, 404),
    ("POST", "rejected/replay", {"after": -1}, 400),
    ("POST", "rejected/replay", {"device_id": 5.5, "x": 1}, 422),
    ("POST", "rejected/replay", [1], 400),
    ("POST", "rejected/replay", {"device_id": "a\0b"}, 400),
    ("GET", "rejected?device_id=%00", None, 400),
    ("GET", "rejected?limit=0", None, 400),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD)
def test_invalid_parameters_are_rejected_with_a_problem(
    admin: ApiClient, method: str, path: str, body: Any, status: int
):
    response = admin.call(method, path, body)
    assert response.status == status, response.raw
    assert response.headers["Content-Type"].startswith("application/problem+json")


@pytest.mark.slow
def test_users_see_rejected_points_of_their_devices_only(
    admin: ApiClient, viewer: ApiClient, operator: ApiClient, stranger: ApiClient, reader: ApiClient, gateway: ApiClient
):
    define(max_value=100)
    device = Device.objects.create(device_id="mine")
    device.groups.add(DeviceGroup.objects.get(name="site a"))
    for device_id in ("mine", "theirs"):
        admin.post(f"devices/{device_id}/telemetry", point("battery", 101))
    admin.post("devices/unborn/telemetry", b"{")
    own_row, other_row = (rejected(admin, device_id=name)[0]["id"] for name in ("mine", "theirs"))
    assert {row["device_id"] for row in rejected(reader)} == {"mine", "theirs", "unborn"}
    for person in (viewer, operator):
        assert [row["device_id"] for row in rejected(person)] == ["mine"]
        assert person.get(f"rejected/{other_row}").status == 404
    assert rejected(stranger) == [] and stranger.get(f"rejected/{own_row}").status == 404
    assert gateway.get("rejected").status == 403
    redefine(max_value=200)
    for caller in (viewer, stranger, reader, gateway):
        assert caller.post("rejected/replay", {}).status == 403
        assert caller.post(f"rejected/{own_row}/replay", {}).status == 403
        assert caller.call("DELETE", f"rejected/{own_row}").status == 403
    assert operator.post(f"rejected/{other_row}/replay", {}).status == 404
    assert operator.post("rejected/replay", {}).json["replayed"] == 1
    assert [row["device_id"] for row in rejected(admin, metric_name="battery")] == ["theirs"]


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


# --- what a flood may take --------------------------------------------------------------------------


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
