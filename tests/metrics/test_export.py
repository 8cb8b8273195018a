"""PRD epic 7: a query's whole answer as a file."""

import csv
import io
from datetime import timedelta
from urllib.parse import urlencode

from tests.metrics.test_query_api import END_TEXT, START, START_TEXT, at, send

ASKED = {
    "device_ids": "device_001",
    "metric_names": "temperature",
    "start_time": START_TEXT,
    "end_time": END_TEXT,
}
HEAD = ["timestamp", "device_id", "metric_name", "value", "unit", "tags"]


def export(caller, **more):
    given = {name: value for name, value in (ASKED | more).items() if value is not None}
    return caller.get(f"export/csv?{urlencode(given, doseq=True)}")


def rows(answer):
    assert answer.status == 200, answer.raw
    head, *found = csv.reader(io.StringIO(answer.raw.decode(), newline=""))
    assert head == HEAD
    return found


def test_e7_us1_points_come_as_csv_with_a_file_name(admin):
    send(admin, [at(0, value=25.0, unit="celsius", tags={"room": "a"}), at(1, value=25.5)])
    answer = export(admin)
    assert rows(answer) == [
        [f"{START:%Y-%m-%dT%H:%M:%SZ}", "device_001", "temperature", "25.0", "celsius", '{"room":"a"}'],
        [f"{START + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}", "device_001", "temperature", "25.5", "", "{}"],
    ]
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    name = f"device_001_temperature_{START:%Y%m%dT%H%M%SZ}_{START + timedelta(days=1):%Y%m%dT%H%M%SZ}.csv"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["Transfer-Encoding"] == "chunked"


def test_e7_us1_no_data_is_not_found(admin):
    send(admin, [at(0)])
    for more in ({"device_ids": "nobody"}, {"metric_names": "nothing"}, {"start_time": at(5)["timestamp"]}):
        answer = export(admin, **more)
        assert answer.status == 404 and "no data" in answer.json["detail"]
