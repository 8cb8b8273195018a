"""PRD epic 7: the result of a query as a file."""

import csv
import io
import json
import re
import threading
from datetime import timedelta
from urllib.parse import urlencode

import msgspec
import pyarrow.parquet as pq
import pytest

from metrics.export import byte_stream, jobs
from metrics.models import MetricDefinition
from metrics.storage import series_registry
from metrics.storage.connection import connect
from metrics.storage.read import block_cache, plan
from tests.metrics.sample_day import END_TEXT, START, START_TEXT, merge_all, point_at, send_points, time_after

EXPORT_PARAMETERS = {
    "device_ids": "device_001",
    "metric_names": "temperature",
    "start_time": START_TEXT,
    "end_time": END_TEXT,
}
HEAD = ["timestamp", "device_id", "metric_name", "value", "unit", "tags"]
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
TEXTS = [
    *("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "a=b", "plain", "", "'quoted'", "'=1"),
    *('say "yes"', "a,b", "two\nlines", "cr\r\nlf", " spaces ", "Grüße, 世界 🌡", "null", "1e5", '"', ",", '"",""'),
]
MARKED_VALUES = {"", "null", "1e5", '"', '"",""'}  # they look like other values
NUMBERS = [0.1, -0.0, 25.0, 1e22, 1e16, 123456789012345.0, 5e-324, 1.7976931348623157e308, -273.15, 1 / 3]


def export(caller, **changes):
    parameters = {name: value for name, value in (EXPORT_PARAMETERS | changes).items() if value is not None}
    return caller.get(f"export/csv?{urlencode(parameters, doseq=True)}")


def parse_csv(response):
    assert response.status == 200, response.raw
    header, *rows = csv.reader(io.StringIO(response.raw.decode(), newline=""))
    assert header == HEAD
    return rows


class JsonNumber(str):
    """A number as its JSON text."""


def query_body(**changes):
    names = {"device_ids": "devices", "metric_names": "metrics"}
    lists = {
        field: names_text.split(",")
        for parameter, field in names.items()
        if (names_text := (EXPORT_PARAMETERS | changes)[parameter])
    }
    return {name: value for name, value in (EXPORT_PARAMETERS | changes).items() if name not in names} | lists


def query_all(caller, **changes):
    """Return (CSV row, JSON point) for every point of the query result."""
    response = caller.post("query", query_body(**changes))
    assert response.status == 200 and not response.json["truncated"], response.raw
    texts = json.loads(response.raw, parse_float=JsonNumber, parse_int=JsonNumber)
    rows = []
    for series, text_series in zip(_series_of(response.json), _series_of(texts), strict=True):
        for point, text_point in zip(series["data_points"], text_series["data_points"], strict=True):
            names = {"device_id": series["device_id"], "metric_name": series["metric_name"]}
            tags = point.get("tags", series.get("tags", {}))
            json_row = {"timestamp": point["timestamp"], **names, "value": point["value"], "unit": point["unit"]}
            json_row["tags"] = tags
            value = text_point["value"] if isinstance(text_point["value"], JsonNumber) else _cell(point["value"])
            row = [point["timestamp"], *map(_text, names.values()), value, _text(point["unit"])]
            rows.append(([*row, msgspec.json.encode(tags).decode()], json_row))
    return rows


def _series_of(body):
    return body.get("series") or [body]


def _cell(value):
    if value is None:
        return ""
    return _value_text(value) if isinstance(value, str) else msgspec.json.encode(value).decode()


def _value_text(text):
    return f"'{text}" if text in MARKED_VALUES else _text(text)


def _text(text):
    special = text and (text.lstrip("'").startswith(FORMULAS) or text != text.strip())
    return f"'{text}" if special else text or ""


@pytest.fixture
def all_kinds(admin):
    """Values of every data type and texts with special characters, partly merged."""
    for name, kind in (("place", "geolocation"), ("photo", "binary"), ("state", "json"), ("=word", "string")):
        MetricDefinition.objects.create(name=name, data_type=kind, unit="-unit" if kind == "string" else "")
    series_registry.refresh_registry()
    special_context = {"unit": '="°C"', "tags": {"room, 1": '=x"y', "n": 1.5, "deep": {"a": [None, True]}}}
    values = {
        "=word": TEXTS,
        "number": NUMBERS,
        "switch": [True, False],
        "mixed": [1.5, True, "=text", {"a": 1}, -2],
        "place": [{"latitude": -1.5, "longitude": 2, "altitude": 3.25}],
        "photo": ["+/+/", "AAECAw==", ""],
        "state": [{"=a": [1, 2.5, None]}, ["x"], "=text", -5, True],
    }
    points = [
        point_at(n + (n % 3) / 8, metric, value, **(special_context if n % 2 else {}))
        for metric, series_values in values.items()
        for n, value in enumerate(series_values)
    ]
    for device in ("device_001", "@device, 2"):
        send_points(admin, points, device.replace(" ", "%20"))
        merge_all()
        send_points(admin, points[::3], device.replace(" ", "%20"))
    admin.metrics = ",".join(values)
    return admin


def test_e7_us1_csv_export_has_rows_and_file_name(admin):
    send_points(admin, [point_at(0, value=25.0, unit="celsius", tags={"room": "a"}), point_at(1, value=25.5)])
    response = export(admin)
    assert parse_csv(response) == [
        [f"{START:%Y-%m-%dT%H:%M:%SZ}", "device_001", "temperature", "25.0", "celsius", '{"room":"a"}'],
        [f"{START + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}", "device_001", "temperature", "25.5", "", "{}"],
    ]
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    name = f"device_001_temperature_{START:%Y%m%dT%H%M%SZ}_{START + timedelta(days=1):%Y%m%dT%H%M%SZ}.csv"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert response.headers["Transfer-Encoding"] == "chunked"


def test_export_is_the_same_under_both_prefixes_and_for_any_accept_header(admin):
    send_points(admin, [point_at(0)])
    other = admin.get(f"/api/v1/export/csv?{urlencode(EXPORT_PARAMETERS)}", Accept="text/csv")
    assert other.status == 200 and other.raw == export(admin).raw


def test_csv_export_preserves_all_kinds_and_special_texts(all_kinds):
    parameters = {"device_ids": "device_001", "metric_names": all_kinds.metrics}
    expected = [row for row, _ in query_all(all_kinds, **parameters)]
    rows = parse_csv(export(all_kinds, **parameters))
    assert rows == expected and len(rows) == len(TEXTS) + len(NUMBERS) + 16
    formulas = [cell for row in rows for index, cell in enumerate(row) if index != 3 and cell.startswith(FORMULAS)]
    assert formulas == []
    values = {row[3] for row in rows if row[2] == "'=word"}
    assert {"'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'\rx", "a=b", "'quoted'", "''=1", "'", "'null"} <= values
    assert {float(row[3]) for row in rows if row[2] == "number"} == set(NUMBERS)
    assert "-273.15" in {row[3] for row in rows}  # negative numbers are not escaped


def test_export_accepts_repeated_and_comma_separated_names(all_kinds):
    send_points(all_kinds, [point_at(0, "number", 1.0)], "device_002")
    together = export(all_kinds, device_ids="device_001,device_002", metric_names="switch,number")
    apart = export(all_kinds, device_ids=["device_001", "device_002"], metric_names=["switch", "number"])
    assert parse_csv(together) == parse_csv(apart) and {row[1] for row in parse_csv(apart)} == {
        "device_001",
        "device_002",
    }


def test_json_lines_export_matches_query(all_kinds):
    parameters = {"device_ids": "device_001", "metric_names": all_kinds.metrics}
    response = export(all_kinds, **parameters, format="jsonl")
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in response.raw.splitlines()] == [
        point for _, point in query_all(all_kinds, **parameters)
    ]


@pytest.mark.slow
def test_parquet_export_has_numbers_in_value_and_others_in_text(all_kinds):
    parameters = {"device_ids": "device_001", "metric_names": all_kinds.metrics}
    response = export(all_kinds, **parameters, format="parquet")
    assert response.headers["Content-Disposition"].endswith('.parquet"')
    rows = pq.read_table(io.BytesIO(response.raw)).to_pylist()
    for row, (_, point) in zip(rows, query_all(all_kinds, **parameters), strict=True):
        value = point["value"]
        number = float(value) if isinstance(value, bool | int | float) else None
        is_number_or_null = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        text = None if is_number_or_null else value if isinstance(value, str) else msgspec.json.encode(value).decode()
        assert (row["value"], row["text"]) == (number, text)
        assert (row["device_id"], row["metric_name"]) == (point["device_id"], point["metric_name"])
        assert (row["unit"], json.loads(row["tags"])) == (point["unit"], point["tags"])
        assert row["timestamp"].isoformat().replace("+00:00", "Z") == point["timestamp"]


@pytest.mark.slow
@pytest.mark.parametrize("route", ["stream", "job"])
@pytest.mark.parametrize(
    ("dialect", "delimiter"),
    [
        ({"bom": True}, ","),
        ({"delimiter": ";"}, ";"),
        ({"delimiter": ";", "decimal": ",", "bom": True}, ";"),
        ({"delimiter": "tab", "decimal": ","}, "\t"),
    ],
)
def test_csv_export_for_excel_has_the_same_cells_in_another_dialect(all_kinds, route, dialect, delimiter):
    parameters = {"device_ids": "device_001", "metric_names": all_kinds.metrics}
    expected = parse_csv(export(all_kinds, **parameters))
    if route == "stream":
        raw = export(all_kinds, **parameters, **dialect).raw
    else:
        order = EXPORT_PARAMETERS | {name: names.split(",") for name, names in parameters.items()} | dialect
        job = all_kinds.post("export/jobs", order)
        assert job.status == 202 and {name: job.json[name] for name in dialect} == dialect
        assert jobs.run_pending_jobs() == 1
        raw = all_kinds.get(f"export/jobs/{job.json['id']}/download").raw
    assert raw.startswith(b"\xef\xbb\xbf") == dialect.get("bom", False)
    header, *rows = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), delimiter=delimiter, strict=True)
    assert header == HEAD
    if dialect.get("decimal") == ",":
        for row in rows:
            row[3] = row[3].replace(",", ".") if is_json_number(row[3].replace(",", ".")) else row[3]
    assert rows == expected


def is_json_number(text):
    return re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", text) is not None


def test_device_name_like_a_formula_is_escaped(all_kinds):
    job = {"device_ids": ["@device, 2"], "metric_names": ["number"], "start_time": START_TEXT, "end_time": END_TEXT}
    assert all_kinds.post("export/jobs", job).status == 202

    assert jobs.run_pending_jobs() == 1
    export_id = all_kinds.get("export/jobs").json["jobs"][0]["id"]
    rows = parse_csv(all_kinds.get(f"export/jobs/{export_id}/download"))
    assert len(rows) == len(NUMBERS) and {row[1] for row in rows} == {"'@device, 2"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aggregation": "avg", "interval": 3600},
        {"aggregation": "p95", "interval": "auto", "device_ids": "device_002,device_001"},
        {"aggregation": "count"},
        {"aggregation": "rate", "interval": 7200, "group_by": "device"},
        {"aggregation": "max", "interval": 3600, "group_by": "all"},
        {"aggregation": "avg", "interval": 100, "fill": "null"},
        {"aggregation": "avg", "interval": 100, "fill": "previous"},
        {"aggregation": "sum", "interval": 86400, "timezone": "Europe/Berlin"},
        {"aggregation": "last", "interval": 3600, "group_by": "tag:room"},
    ],
)
def test_export_matches_query(day, monkeypatch, changes):
    for limit in ("MAX_NUMERIC_POINTS", "MAX_AGGREGATES", "MAX_HELD_POINTS"):
        monkeypatch.setattr(f"metrics.export.read_pieces.{limit}", 100)
    send_points(day, [point_at(5 + tick, value=tick, tags={"room": "=b"}, unit="K") for tick in range(20)])
    parameters = {"device_ids": "device_001,device_002"} | changes
    expected = query_all(day, **parameters)
    assert parse_csv(export(day, **parameters)) == [row for row, _ in expected] != []
    lines = export(day, **parameters, format="jsonl").raw.splitlines()
    assert [json.loads(line) for line in lines] == [point for _, point in expected]


@pytest.mark.slow
def test_export_across_snapshots_has_every_point_once(day, monkeypatch):
    monkeypatch.setattr("metrics.export.read_pieces.MAX_NUMERIC_POINTS", 50)
    parameters = {"device_ids": "device_002,device_001"}
    expected, averages = export(day, **parameters).raw, export(day, **parameters, aggregation="avg", interval=60).raw
    snapshots = []
    monkeypatch.setattr("metrics.export.read_pieces.MAX_SNAPSHOT_AGE", -1.0)
    monkeypatch.setattr("metrics.export.read_pieces.MAX_AGGREGATES", 1)
    monkeypatch.setattr(
        "metrics.export.read_pieces.snapshot", lambda **options: snapshots.append(1) or plan.snapshot(**options)
    )
    assert export(day, **parameters).raw == expected
    assert len(snapshots) >= 2 * 144 / 50
    assert export(day, **parameters, aggregation="avg", interval=60).raw == averages


@pytest.mark.slow
def test_export_is_not_limited_to_the_points_of_one_response(admin):
    for low in range(0, 12_000, 1000):
        send_points(admin, [point_at(tick, value=float(tick)) for tick in range(low, low + 1000)])
    rows = parse_csv(export(admin))
    assert [row[3] for row in rows] == [f"{tick}.0" for tick in range(12_000)]


def test_e7_us1_export_without_data_returns_404(admin):
    send_points(admin, [point_at(0)])
    for changes in ({"device_ids": "nobody"}, {"metric_names": "nothing"}, {"start_time": point_at(5)["timestamp"]}):
        for kind in ("csv", "jsonl", "parquet"):
            response = export(admin, **changes, format=kind)
            assert response.status == 404 and "no data" in response.json["detail"]


# --- permissions and invalid requests ---------------------------------------------------------------


@pytest.mark.slow
def test_readers_may_export(day, device, gateway, anonymous, reader, administrator):
    for caller, status in ((gateway, 403), (anonymous, 401), (reader, 200), (administrator, 200), (device, 200)):
        assert export(caller).status == status
    for devices in ("device_002", "device_001,device_002", ["device_001", "device_002"], ",device_002", None):
        assert export(device, device_ids=devices).status == 403


BAD = [
    ({"device_ids": None}, "device_ids"),
    ({"device_ids": ""}, "device_ids"),
    ({"device_ids": ","}, "device_ids"),
    ({"device_ids": "x" * 300}, "device_ids"),
    ({"device_ids": "a\0b"}, "device_ids"),
    ({"metric_names": None}, "metric_names"),
    ({"metric_names": "a\0b"}, "metric_names"),
    ({"start_time": None}, "start_time"),
    ({"start_time": "yesterday"}, "start_time"),
    ({"start_time": "0001-01-01T00:00:00Z"}, "start_time"),
    ({"end_time": None}, "end_time"),
    ({"end_time": START_TEXT}, "start_time"),
    ({"end_time": "9999-12-31T23:59:59Z"}, "end_time"),
    ({"format": "xls"}, "format"),
    ({"bom": "perhaps"}, "bom"),
    ({"delimiter": "|"}, "delimiter"),
    ({"decimal": ","}, "decimal"),
    ({"format": "parquet", "bom": True}, "bom"),
    ({"format": "jsonl", "delimiter": ";"}, "delimiter"),
    ({"interval": 60}, "aggregation"),
    ({"aggregation": "mode"}, "aggregation"),
    ({"aggregation": "avg", "interval": "hourly"}, "interval"),
    ({"aggregation": "avg", "interval": 1, "end_time": time_after(days=12)}, "interval"),
    ({"aggregation": "avg", "fill": "zero"}, "fill"),
    ({"fill": "null"}, "fill"),
    ({"aggregation": "avg", "timezone": "Mars/Olympus"}, "timezone"),
    ({"aggregation": "avg", "group_by": "metric"}, "group_by"),
    ({"group_by": "all"}, "group_by"),
]


@pytest.mark.parametrize(("changes", "field"), BAD)
def test_invalid_export_parameter_is_rejected_with_its_field(reader, changes, field):
    response = export(reader, **changes)
    assert response.status in (400, 422), response.raw
    assert field in {error["field"] for error in response.json["errors"]}, response.raw


@pytest.mark.parametrize(
    ("changes", "field"),
    [*BAD, ({"device_ids": [5]}, "device_ids"), ({"device_ids": {}}, "device_ids"), ({"formt": "csv"}, "formt")],
)
def test_invalid_background_export_field_is_rejected_with_its_name(reader, changes, field):
    parameters = {name: value for name, value in (EXPORT_PARAMETERS | changes).items() if value is not None}
    response = reader.post("export/jobs", parameters)
    assert response.status in (400, 422), response.raw
    assert field in {error["field"] for error in response.json["errors"]}, response.raw


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'"x"'])
def test_background_export_body_other_than_object_is_rejected(reader, body):
    assert reader.post("export/jobs", body).status in (400, 422)


# --- errors -----------------------------------------------------------------------------------------


def damage(condition):
    with connect() as connection:
        connection.execute(
            f"UPDATE metrics_block SET payload = set_byte(payload, 20, get_byte(payload, 20) # 255) WHERE {condition}"
        )
    block_cache.clear_block_cache()


def two_days(caller):
    for ago in (0, 1):
        send_points(caller, [point_at(tick - 86_400 * ago) for tick in range(1000)])
    merge_all()
    return {"start_time": (START - timedelta(days=1)).isoformat()}


def read_export(content: bytes, kind: str) -> tuple[int, list[str]]:
    """Return the number of rows of a file, and its messages about missing points."""
    if kind == "parquet":
        file = pq.ParquetFile(io.BytesIO(content))
        return file.metadata.num_rows, json.loads(file.metadata.metadata.get(b"incomplete", b"[]"))
    *lines, last = content.decode().splitlines()
    if kind == "csv":
        has_note = last.startswith("# incomplete: ")
        return len(lines) - has_note, last.removeprefix("# incomplete: ").split("; ") if has_note else []
    return len(lines) + ("incomplete" not in json.loads(last)), json.loads(last).get("incomplete", [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("condition", "rows", "missing"), [("false", 2000, 0), ("true", 0, 2)])
def test_export_with_damaged_blocks_ends_with_their_names(admin, kind, condition, rows, missing):
    start = two_days(admin)
    damage(condition)
    for _ in range(2):  # the first read sets the blocks aside
        response = export(admin, **start, format=kind)
        assert response.status == 200
        count, messages = read_export(response.raw, kind)
        assert (count, len(messages)) == (rows, missing)
        assert all(re.fullmatch(r"merged block \d+ is damaged and was left out", message) for message in messages)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("day", ["min", "max"])
def test_export_with_a_damaged_day_has_the_other_day(admin, monkeypatch, kind, day):
    start = two_days(admin)
    damage(f"day = (SELECT {day}(day) FROM metrics_block)")
    monkeypatch.setattr(
        "metrics.export.read_pieces.MAX_NUMERIC_POINTS", 700
    )  # so that the second day is read separately
    monkeypatch.setattr(byte_stream, "PIECE_SIZE", 1)
    monkeypatch.setattr("metrics.export.parquet.ROW_GROUP", 1)
    count, [message] = read_export(export(admin, **start, format=kind).raw, kind)
    assert count == 1000 and message.startswith("merged block")


def test_aggregated_export_with_a_damaged_block_ends_with_its_name(admin):
    start = two_days(admin)
    damage("day = (SELECT max(day) FROM metrics_block)")
    response = export(admin, **start, aggregation="median", interval=3600)
    assert (response.status, len(read_export(response.raw, "csv")[1])) == (200, 1)


def test_exports_over_the_concurrency_limit_return_503(admin):
    send_points(admin, [point_at(0)])
    streams = [byte_stream.ByteStream(lambda: yield_forever()) for _ in range(byte_stream.MAX_STREAMS)]
    try:
        response = export(admin)
        assert response.status == 503 and response.headers["Retry-After"] == "1"
    finally:
        for stream in streams:
            stream.close()
    for thread in [stream for stream in threading.enumerate() if stream.name == "export"]:
        thread.join(10)
    assert export(admin).status == 200


def yield_forever():
    while True:
        yield b"x" * byte_stream.PIECE_SIZE
