"""PRD epic 3 over HTTP: queries, their responses and errors."""

import base64
from datetime import datetime, timedelta

import pytest

from metrics.storage.connection import connect
from metrics.storage.read import block_cache
from tests.metrics.sample_day import END_TEXT, RANGE, START, START_TEXT, merge_all, point_at, send_points, time_after

RAW_QUERY = {"devices": ["device_001"], "metrics": ["temperature"], **RANGE}
AVERAGE_QUERY = RAW_QUERY | {"aggregation": "avg", "interval": 3600}


def values(response):
    assert response.status == 200, response.raw
    return [point["value"] for point in response.json["data_points"]]


def post_query(caller, **changes):
    return caller.post("query", RAW_QUERY | changes)


def get_aggregated(caller, **changes):
    parameters = {"metric_name": "temperature", "aggregation_type": "avg", "interval": 3600, **RANGE} | changes
    query = "&".join(f"{name}={value}".replace("+", "%2B") for name, value in parameters.items() if value is not None)
    return caller.get(f"aggregated?{query}")


# --- responses --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_e3_us1_query_response_has_the_documented_shape(day):
    response = day.post("query", AVERAGE_QUERY | {"limit": 1000})
    assert response.status == 200, response.raw
    body = response.json
    assert (body["device_id"], body["metric_name"], body["count"]) == ("device_001", "temperature", 24)
    assert (body["aggregation"], body["interval"]) == ("avg", 3600)
    assert datetime.fromisoformat(body["start_time"]) == START
    assert datetime.fromisoformat(body["end_time"]) == START + timedelta(days=1)
    first = body["data_points"][0]
    assert datetime.fromisoformat(first.pop("timestamp")) == START
    assert first == {"metric_name": "temperature", "value": 2.5, "unit": "celsius", "count": 6}
    assert (body["truncated"], body["next_cursor"]) == (False, None)
    assert "series" not in body and "explain" not in body


@pytest.mark.slow
def test_e3_us1_raw_points_have_unit_and_tags(admin):
    send_points(admin, [point_at(0, tags={"room": "a"}, unit="celsius"), point_at(1)])
    points = post_query(admin).json["data_points"]
    assert [(row["unit"], row["tags"], row["metadata"]) for row in points] == [
        ("celsius", {"room": "a"}, {}),
        (None, {}, {}),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("avg", 71.5), ("min", 0), ("max", 143), ("sum", 71.5 * 144), ("count", 144), ("median", 71.5),
        ("p95", 135.85), ("p99.5", 142.285), ("first", 0), ("last", 143), ("increase", 143), ("delta", 143),
        ("rate", 1 / 600), ("stddev", ((144**2 - 1) / 12) ** 0.5),
    ],
)  # fmt: skip
def test_e3_us1_every_aggregation_over_the_whole_range(day, name, value):
    assert values(post_query(day, aggregation=name)) == [pytest.approx(value)]


def test_e3_us1_several_series_are_returned_separately(day):
    body = day.post("query", AVERAGE_QUERY | {"devices": None, "interval": 43200}).json
    assert [(row["device_id"], row["count"]) for row in body["series"]] == [("device_001", 2), ("device_002", 2)]
    assert [row["device_id"] for row in body["data_points"]] == ["device_001"] * 2 + ["device_002"] * 2
    assert body["count"] == 4 and body["device_id"] == "device_001"


def test_e3_us1_series_keep_the_order_of_the_query(day):
    body = day.post("query", AVERAGE_QUERY | {"devices": ["device_002", "device_001"], "interval": 86400}).json
    assert [row["device_id"] for row in body["series"]] == ["device_002", "device_001"]


def test_e3_us1_group_by_all_aggregates_all_devices(day):
    body = day.post(
        "query", AVERAGE_QUERY | {"devices": None, "group_by": "all", "aggregation": "max", "interval": 43200}
    ).json
    assert [row["value"] for row in body["data_points"]] == [171, 243]
    assert (body["device_id"], body["metric_name"]) == (None, "temperature")


def test_e3_us1_group_by_device_aggregates_its_metrics(admin):
    send_points(admin, [point_at(0, "cpu_0", 10.0), point_at(0, "cpu_1", 30.0)])
    send_points(admin, [point_at(0, "cpu_0", 50.0)], "device_002")
    body = admin.post("query", RANGE | {"metrics": ["cpu_0", "cpu_1"], "aggregation": "avg", "group_by": "device"}).json
    assert [(row["device_id"], row["metric_name"]) for row in body["series"]] == [
        ("device_001", None),
        ("device_002", None),
    ]
    assert [row["value"] for row in body["data_points"]] == [20, 50]


def test_e3_us1_points_are_grouped_by_tag(admin):
    rooms = [{"room": "a"}, {"room": "b"}, {"room": "a"}, {}]
    send_points(admin, [point_at(tick, value=float(tick), tags=tags) for tick, tags in enumerate(rooms)])
    body = post_query(admin, aggregation="sum", group_by="tag:room").json
    assert [(row["tags"], row["data_points"][0]["value"]) for row in body["series"]] == [
        ({"room": None}, 3), ({"room": "a"}, 2), ({"room": "b"}, 1),
    ]  # fmt: skip


def test_e3_us1_filters_select_points_by_tag_and_value(admin):
    send_points(admin, [point_at(tick, value=float(tick), tags={"room": "ab"[tick % 2]}) for tick in range(10)])
    assert values(post_query(admin, filters={"tags": {"room": "a"}})) == [0, 2, 4, 6, 8]
    assert values(post_query(admin, filters={"min_value": 3, "max_value": 5})) == [3, 4, 5]
    assert values(post_query(admin, filters={"tags": {"room": "b"}, "min_value": 4}, aggregation="count")) == [3]
    assert values(post_query(admin, filters={"tags": {"floor": "1"}})) == []
    assert values(post_query(admin, filters={"tags": {"room": ["a", {}]}})) == []


def test_e3_us1_pages_of_raw_points_have_every_point_once(day):
    body, pages, cursor = RAW_QUERY | {"devices": None, "limit": 50}, [], None
    while True:
        response = day.post("query", body | {"cursor": cursor}).json
        pages.append(
            [
                (row["device_id"], row["value"]) if "device_id" in row else row["value"]
                for row in response["data_points"]
            ]
        )
        cursor = response["next_cursor"]
        assert response["truncated"] is (cursor is not None)
        if cursor is None:
            break
    all_values = [row[1] if isinstance(row, tuple) else row for page in pages for row in page]
    assert all_values == [float(tick) for tick in range(144)] + [float(tick + 100) for tick in range(144)]
    assert [len(page) for page in pages] == [50, 50, 50, 50, 50, 38]


@pytest.mark.slow
@pytest.mark.parametrize("group_by", ["series", "device", "all", "tag:room"])
def test_e3_us1_pages_of_aggregates_have_every_interval_once(day, group_by):
    body = AVERAGE_QUERY | {"devices": None, "group_by": group_by}
    expected = values(day.post("query", body))
    all_values, cursor = [], None
    while not all_values or cursor:
        response = day.post("query", body | {"limit": 7, "cursor": cursor})
        all_values += values(response)
        cursor = response.json["next_cursor"]
    assert all_values == expected and len(expected) in (24, 48)


def test_e3_us1_downsampled_series_keeps_minimum_and_maximum(day):
    downsampled = values(post_query(day, max_points=10))
    assert 5 <= len(downsampled) <= 12 and downsampled[0] == 0 and downsampled[-1] == 143


def test_e3_us1_gaps_are_filled(admin):
    send_points(admin, [point_at(0, value=1.0), point_at(7200, value=3.0)])
    body = {"aggregation": "avg", "interval": 3600, "end_time": (START + timedelta(hours=4)).isoformat()}
    for fill, expected in (
        ("none", [1, 3]),
        ("null", [1, None, 3, None]),
        ("previous", [1, 1, 3, 3]),
        ("linear", [1, 2, 3, None]),
        (0, [1, 0, 3, 0]),
    ):
        assert values(post_query(admin, **body, fill=fill)) == expected, fill


def test_e3_us1_daily_buckets_start_at_local_midnight(admin):
    send_points(admin, [point_at(0, value=1.0), point_at(12 * 3600, value=3.0)])
    parameters = {
        "aggregation": "sum",
        "interval": 86400,
        "timezone": "Pacific/Auckland",
        "end_time": (START + timedelta(days=2)).isoformat(),
    }
    points = post_query(admin, **parameters).json["data_points"]
    assert [row["value"] for row in points] == [1, 3]  # noon in UTC is past midnight there
    assert {datetime.fromisoformat(row["timestamp"]).hour for row in points} <= {11, 12}


def test_e3_us1_auto_interval_is_returned_in_seconds(day):
    body = post_query(day, aggregation="avg", interval="auto").json
    assert body["interval"] == 300 and body["count"] == 144


def test_e3_us1_booleans_and_texts_are_returned_unchanged(admin):
    for name, kind in (("door", "boolean"), ("state", "string")):
        created = admin.post("metrics", {"name": name, "data_type": kind})
        if created.status in (404, 405):
            from metrics.models import MetricDefinition

            MetricDefinition.objects.create(name=name, data_type=kind)
    from metrics.storage import series_registry

    series_registry.refresh_registry()
    send_points(
        admin,
        [
            point_at(0, "door", True),
            point_at(1, "door", False),
            point_at(0, "state", "on"),
            point_at(5, "state", "off"),
        ],
    )
    assert values(post_query(admin, metrics=["door"])) == [True, False]
    assert values(post_query(admin, metrics=["door"], aggregation="avg")) == [0.5]
    assert values(post_query(admin, metrics=["state"])) == ["on", "off"]
    assert values(post_query(admin, metrics=["state"], aggregation="count")) == [2]
    for invalid in ({"aggregation": "avg"}, {"filters": {"min_value": 1}}):
        response = post_query(admin, metrics=["state"], **invalid)
        assert response.status == 422 and "state is string" in response.json["detail"]


def test_e3_us1_explain_returns_what_was_read(day):
    response = day.post("query?explain=true", AVERAGE_QUERY)
    explanation = response.json["explain"]
    assert (
        explanation["series"] == 1
        and explanation["points_in_blocks"] + 6 * explanation["intervals_in_rollups"] >= 144
        and explanation["milliseconds"] > 0
    )
    assert (
        explanation["young_blocks"]
        + sum(explanation["blocks_by_level"].values())
        + explanation["rollups_by_seconds"]["3600"]
        >= 1
    )


def test_e3_us1_unknown_devices_and_metrics_return_an_empty_result(day):
    for changes in ({"devices": ["nobody"]}, {"metrics": ["nothing"]}):
        for query in (RAW_QUERY | changes, AVERAGE_QUERY | changes):
            response = day.post("query", query)
            assert response.status == 200
            assert (response.json["data_points"], response.json["count"], response.json["truncated"]) == ([], 0, False)


def test_e3_us1_damaged_block_is_reported_as_incomplete(day):
    with connect() as connection:
        for table in ("metrics_young", "metrics_block", "metrics_rollup"):
            connection.execute(f"UPDATE {table} SET payload = set_byte(payload, 20, get_byte(payload, 20) # 255)")
    block_cache.clear_block_cache()
    response = day.post("query", AVERAGE_QUERY)
    assert response.status == 200 and "damaged" in response.json["incomplete"][0]


def test_e3_us4_range_can_be_aggregated(day):
    times = f"start_time={START:%Y-%m-%dT%H:%M:%SZ}&end_time={START:%Y-%m-%dT23:59:59Z}"
    path = f"devices/device_001/metrics/temperature/range?{times}"
    body = day.get(f"{path}&aggregation=max&interval=43200").json
    assert [row["value"] for row in body["data_points"]] == [71, 143]
    assert (body["aggregation"], body["interval"], body["count"]) == ("max", 43200, 2)
    columns = day.get(f"{path}&aggregation=max&interval=43200&columns=true").json
    assert columns["values"] == [71, 143] and columns["unit"] == "celsius"
    assert day.get(f"{path}&interval=60").status == 422
    assert day.get(f"{path.split('?')[0]}?start_time=1926-01-01T00:00:00Z").status == 422
    assert day.get(f"{path}&aggregation=mode&interval=60").status == 400


def test_e3_us5_aggregated_combines_all_devices(day):
    body = get_aggregated(day).json
    assert (body["metric_name"], body["device_id"], body["aggregation_type"]) == ("temperature", None, "avg")
    assert (body["interval"], body["count"]) == (3600, 24)
    first = body["data_points"][0]
    assert datetime.fromisoformat(first.pop("timestamp")) == START
    assert first == {"value": 52.5, "count": 12}


def test_e3_us5_aggregated_accepts_one_device(day):
    body = get_aggregated(day, device_id="device_002", interval=86400, aggregation_type="median").json
    assert body["device_id"] == "device_002" and [row["value"] for row in body["data_points"]] == [171.5]


# --- permissions ------------------------------------------------------------------------------------


def test_device_key_may_query_only_its_own_device(day, device):
    assert device.post("query", AVERAGE_QUERY).status == 200
    assert get_aggregated(device, device_id="device_001").status == 200
    for devices in (["device_002"], ["device_001", "device_002"], None, []):
        assert device.post("query", AVERAGE_QUERY | {"devices": devices}).status == 403
    assert get_aggregated(device, device_id="device_002").status == 403
    assert get_aggregated(device).status == 403


def test_caller_without_read_scope_may_not_query(gateway, anonymous, reader, administrator):
    for caller, status in ((gateway, 403), (anonymous, 401), (reader, 200), (administrator, 200)):
        assert caller.post("query", AVERAGE_QUERY).status == status
        assert get_aggregated(caller).status == status


# --- invalid requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"end_time": START_TEXT}, "start_time"),
        ({"end_time": time_after(days=-1)}, "start_time"),
        ({"start_time": "yesterday"}, "start_time"),
        ({"start_time": None}, "start_time"),
        ({"end_time": 5}, "end_time"),
        ({"start_time": "1926-01-01T00:00:00Z"}, "start_time"),
        ({"start_time": "1970-01-01T00:00:00Z"}, "start_time"),
        ({"start_time": "0001-01-01T00:00:00Z", "end_time": "0001-02-01T00:00:00Z"}, "start_time"),
        ({"start_time": "9999-01-01T00:00:00Z", "end_time": "9999-12-31T23:59:59Z"}, "end_time"),
        ({"start_time": "9999-12-31T23:59:59-14:00"}, "start_time"),
        ({"end_time": "0001-01-01T00:00:00+14:00"}, "end_time"),
        ({"devices": ["a\0b"]}, "devices"),
        ({"interval": 10**30}, "interval"),
        ({"interval": "9" * 5000}, "interval"),
        ({"filters": {"max_value": 10**400}}, "filters.max_value"),
        ({"metrics": []}, "metrics"),
        ({"metrics": "temperature"}, "metrics"),
        ({"metrics": [{}]}, "metrics"),
        ({"devices": "device_001"}, "devices"),
        ({"devices": ["x" * 300]}, "devices"),
        ({"interval": 0}, "interval"),
        ({"interval": -60}, "interval"),
        ({"interval": 0.5}, "interval"),
        ({"interval": "hourly"}, "interval"),
        ({"interval": True}, "interval"),
        ({"interval": [60]}, "interval"),
        ({"interval": 1, "end_time": time_after(days=12)}, "interval"),
        ({"interval": 60, "aggregation": None}, "aggregation"),
        ({"aggregation": "mode"}, "aggregation"),
        ({"aggregation": "p101"}, "aggregation"),
        ({"aggregation": ["avg"]}, "aggregation"),
        ({"fill": "zero"}, "fill"),
        ({"fill": True}, "fill"),
        ({"fill": {}}, "fill"),
        ({"fill": "null", "interval": None, "aggregation": None}, "fill"),
        ({"group_by": "metric"}, "group_by"),
        ({"group_by": "tag:"}, "group_by"),
        ({"group_by": "all", "interval": None, "aggregation": None}, "group_by"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"timezone": ""}, "timezone"),
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"limit": "all"}, "limit"),
        ({"max_points": 1}, "max_points"),
        ({"filters": []}, "filters"),
        ({"filters": {"status": "active"}}, "filters.status"),
        ({"filters": {"tags": "room"}}, "filters.tags"),
        ({"filters": {"min_value": "low"}}, "filters.min_value"),
        ({"filters": {"min_value": 5, "max_value": 4}}, "filters.min_value"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b'["a",["b"],1]').decode()}, "cursor"),
        ({"agregation": "avg"}, "agregation"),
    ],
)
def test_invalid_query_field_is_rejected_with_its_name(reader, changes, field):
    response = reader.post("query", AVERAGE_QUERY | changes)
    assert response.status in (400, 422), response.raw
    assert field in {error["field"].split(".0")[0] for error in response.json["errors"]}, response.raw
    assert response.json["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'"x"', b"null", b'{"metrics": NaN}', b"\xff", b"[" * 100_000, b" " * 5_000_000]
)
def test_query_body_other_than_object_is_rejected(reader, body):
    assert reader.post("query", body).status in (400, 413, 422)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"metric_name": None}, "metric_name"),
        ({"aggregation_type": None}, "aggregation_type"),
        ({"aggregation_type": "mode"}, "aggregation_type"),
        ({"interval": None}, "interval"),
        ({"interval": 0}, "interval"),
        ({"start_time": END_TEXT, "end_time": START_TEXT}, "start_time"),
        ({"end_time": None}, "end_time"),
        ({"limit": 10_001}, "limit"),
    ],
)
def test_invalid_aggregated_parameter_is_rejected_with_its_field(reader, changes, field):
    response = get_aggregated(reader, **changes)
    assert response.status in (400, 422), response.raw
    assert field in {error["field"] for error in response.json["errors"]}


def test_cursor_of_another_query_is_rejected(day):
    cursor = post_query(day, limit=10).json["next_cursor"]
    assert post_query(day, limit=20, cursor=cursor).status == 200
    response = post_query(day, limit=10, cursor=cursor, metrics=["humidity"])
    assert response.status == 422 and response.json["errors"][0]["field"] == "cursor"


def test_query_over_the_point_limit_is_rejected_with_a_smaller_range(day, monkeypatch):
    monkeypatch.setattr("metrics.query.plan.MAX_READ_POINTS", 40)
    monkeypatch.setattr("metrics.query.plan.MAX_HELD_POINTS", 50)
    for name, limit in (("avg", "40"), ("p95", "50")):
        response = day.post("query", AVERAGE_QUERY | {"aggregation": name})
        assert response.status == 422 and response.json["errors"][0]["field"] == "start_time"
        assert f"at most {limit} are allowed" in response.json["detail"] and "hours" in response.json["detail"]


def test_point_limit_counts_only_series_of_the_query(admin, monkeypatch):
    for device in ("device_001", "device_002"):
        send_points(admin, [point_at(600 * tick) for tick in range(144)], device)
    merge_all()
    monkeypatch.setattr("metrics.query.plan.MAX_HELD_POINTS", 200)
    assert post_query(admin, aggregation="p95").status == 200
    assert post_query(admin, aggregation="p95", devices=None).status == 422


def test_query_that_reads_far_more_than_planned_is_aborted(admin, monkeypatch):
    for device, ticks in (("device_001", 144), ("device_002", 1), ("device_003", 1)):
        send_points(admin, [point_at(600 * tick) for tick in range(ticks)], device)
    merge_all()
    monkeypatch.setattr("metrics.query.plan.MAX_HELD_POINTS", 50)
    response = post_query(admin, aggregation="p95")
    assert response.status == 422 and "would read about 144 points" in response.json["detail"]


def test_range_over_shared_blocks_returns_only_its_series(admin, monkeypatch):
    monkeypatch.setattr("metrics.storage.format.codec.PER_SERIES_MIN_POINTS", 8)
    for number, device in enumerate(("device_001", "device_002", "device_003")):
        send_points(admin, [point_at(1800 * tick, value=float(tick + 100 * number)) for tick in range(144)], device)
    merge_all()
    for device, low in (("device_002", 100.0), ("device_001", 0.0), ("device_002", 100.0)):
        path = f"devices/{device}/metrics/temperature/range?time_range=7d"
        assert values(admin.get(path)) == [low + tick for tick in range(144)]


def test_more_than_max_buckets_is_rejected(day, monkeypatch):
    monkeypatch.setattr("metrics.query.aggregate.MAX_BUCKETS", 40)
    response = day.post("query", AVERAGE_QUERY | {"devices": None})
    assert response.status == 422 and response.json["errors"][0]["field"] == "interval"


def test_heavy_query_without_free_slot_returns_503(day, monkeypatch):
    from threading import BoundedSemaphore

    slots = BoundedSemaphore(1)
    monkeypatch.setattr("metrics.query.plan.HEAVY_POINTS", 1)
    monkeypatch.setattr("metrics.query.plan._heavy_slots", slots)
    monkeypatch.setattr("metrics.query.plan.HEAVY_TIMEOUT", 0.01)
    assert day.post("query", AVERAGE_QUERY).status == 200
    with slots:
        response = day.post("query", AVERAGE_QUERY)
    assert response.status == 503 and response.headers["Retry-After"] == "1"


def test_heavy_queries_over_the_queue_limit_return_503(day, monkeypatch):
    from threading import BoundedSemaphore

    queue, slots = BoundedSemaphore(1), BoundedSemaphore(1)
    monkeypatch.setattr("metrics.query.plan.HEAVY_POINTS", 1)
    monkeypatch.setattr("metrics.query.plan._heavy_queue", queue)
    monkeypatch.setattr("metrics.query.plan._heavy_slots", slots)
    with queue, slots:
        response = day.post("query", AVERAGE_QUERY)
    assert response.status == 503 and response.headers["Retry-After"] == "1"
    assert day.post("query", AVERAGE_QUERY).status == 200
