"""New IDs and names: visible, without blanks at the ends; existing ones stay usable, whatever they are."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from alerts.models import Channel, Rule
from ingest.models import ApiKey
from metrics.models import Device, DeviceGroup, MetricDefinition, Series
from metrics.storage import series_registry
from rest.names import id_error, name_error
from tests.alerts.test_rules_api import body as rule_body
from tests.conftest import ApiClient, point

INVISIBLE = (
    "a\x00b", "a\nb", "a\x7f", "a\x85b", "a\u00adb", "a\u200bb", "a\u200db", "\ufeffa", "a\u2060", "a\u180eb",
    "a\u2028b", "\u202ea", "a\u2066b", "a\u200f", "a\u061cb", "a\ufe0f", "a\U000e0061", "a\u3164", "\u2800", " ",
    "\u00a0", " a", "a ", "\ta", "a\u00a0", "\u3000a",
)  # fmt: skip
DOTS = (".", "..", "../a", "a/..", "a/./b", "a/../b")
ACCEPTED = (
    "a.b",
    "...",
    "a/b",
    "/dev/sda",
    "a,b",
    "Ofen 3",
    "Öl-Druck",
    "日本",
    "пост",
    "عربي",
    "❄️ cold",
    "C:\\x",
    "50%",
    "a..b",
    "v1./x",
)


def test_rules_of_names():
    assert [name for name in INVISIBLE if name_error(name) is None] == []
    assert [name for name in (*INVISIBLE, *DOTS) if id_error(name) is None] == []
    assert {name: id_error(name) for name in ACCEPTED} == dict.fromkeys(ACCEPTED)


@pytest.mark.parametrize("name", [*INVISIBLE, *DOTS])
@pytest.mark.parametrize("lane", ["fast lane", "Django"])
def test_new_name_is_rejected_by_ingestion(admin: ApiClient, administrator: ApiClient, lane: str, name: str):
    client = admin if lane == "fast lane" else administrator
    if "\0" not in name:
        response = client.post(f"devices/{quote(name, safe='')}/telemetry", point())
        assert (response.status, response.json["errors"][0]["field"]) in {(422, "device_id"), (400, "device_id")}
    good = point("other")
    requests: list[tuple[str, Any]] = [
        ("devices/d/telemetry/batch", {"data_points": [point(name), good]}),
        ("bulk", {name: [point()], "d": [good]}),
        ("snapshot", {"node_id": "d", "timestamp": good["timestamp"], name: 1.0, "other": 1.0}),
        ("/telemetry", [
            {"timestamp": good["timestamp"], "source": name, "type": "m", "value": 1},
            {"timestamp": good["timestamp"], "source": "d", "type": name, "value": 1},
            {"timestamp": good["timestamp"], "source": "d", "type": "other", "value": 1},
        ]),
    ]  # fmt: skip
    for path, body in requests:
        response = client.post(path, body)
        assert response.status == 200 and response.json["failed_count"] == len(response.json["errors"]) > 0, path
        assert response.json["ingested_count"] == 1
        assert all("accepted" in error["detail"] for error in response.json["errors"])
    assert list(Device.objects.values_list("device_id", flat=True)) == ["d"]
    assert set(Series.objects.values_list("metric_name", flat=True)) == {"other"}


@pytest.mark.parametrize("name", [*INVISIBLE, *DOTS])
def test_new_name_is_rejected_by_the_api(admin: ApiClient, name: str):
    requests: list[tuple[str, Any]] = [
        ("devices", {"device_id": name}),
        ("metrics", {"name": name, "data_type": "numeric"}),
        ("groups", {"name": name}),
    ]
    if name not in DOTS:
        requests += [
            ("devices", {"device_id": "d", "name": name}),
            ("keys", {"name": name, "scope": "read"}),
            ("alerts/rules", rule_body(name=name)),
            ("alerts/channels", {"name": name, "kind": "webhook", "url": "https://example.com/"}),
        ]
    for path, body in requests:
        response = admin.post(path, body)
        assert response.status in (400, 422) and response.json["errors"], (path, response.status)
    text = f'device_id,name\r\n"{name}",x\r\ne,"{name}"\r\n' if name not in DOTS else f"device_id\r\n{name}\r\n"
    response = admin.call("POST", "devices.csv", text.encode(), Content_Type="text/csv")
    assert response.status in (400, 422), response.raw
    assert not Device.objects.exists() and not MetricDefinition.objects.exists() and not DeviceGroup.objects.exists()
    assert not Rule.objects.exists() and not Channel.objects.exists() and ApiKey.objects.count() == 1


@pytest.mark.parametrize("name", ["a\u200bb", " a", "a/../b", ".", "..", "\u202ea "])
@pytest.mark.parametrize("lane", ["fast lane", "Django"])
def test_existing_name_stays_usable(admin: ApiClient, administrator: ApiClient, lane: str, name: str):
    client = admin if lane == "fast lane" else administrator
    device = Device.objects.create(device_id=name, name=name)
    MetricDefinition.objects.create(name=name, data_type="numeric")
    DeviceGroup.objects.create(name=name)
    series_registry.refresh_registry()
    path = f"devices/{quote(name, safe='')}" if name not in (".", "..") else f"devices/{name.replace('.', '%2E')}"
    assert client.post(f"{path}/telemetry", point("new metric", 1)).status == 200
    assert client.post(f"{path}/telemetry/batch", {"data_points": [point(name, 2, tags={"a": "b"})]}).status == 200
    assert client.post("bulk", {name: [point("x", 3)]}).status == 200
    assert client.get(f"{path}/metrics/x/latest").json["value"] == 3
    assert client.get(path).json["device_id"] == name
    change = {"device_id": name, "name": name, "description": "old"}
    assert client.call("PATCH", path, change).json["description"] == "old"
    assert (
        client.call("PATCH", f"groups/{quote(name, safe='').replace('.', '%2E')}", {"description": "x"}).status == 200
    )
    text = f'device_id,name,location\r\n"{name}","{name}",cellar\r\n'
    assert admin.call("POST", "devices.csv", text.encode(), Content_Type="text/csv").json["updated"] == 1
    device.refresh_from_db()
    assert device.location == "cellar"
    device.full_clean()


@pytest.mark.slow
def test_list_of_names_in_a_url(admin: ApiClient):
    for number, device_id in enumerate(("a", "b", "a,b", "c\\", "\\\\server\\x")):
        assert admin.post(f"devices/{quote(device_id, safe='')}/telemetry", point("m,n", number, 60)).status == 200
    times = "start_time=2020-01-01T00:00:00Z&end_time=2030-01-01T00:00:00Z&format=jsonl&metric_names=m%5C,n"

    def devices(query: str) -> list[str]:
        text = admin.get(f"export/csv?{times}&{query}").raw.decode()
        return sorted(json.loads(line)["device_id"] for line in text.splitlines())

    assert (
        devices("device_ids=a,b") == ["a", "b"] == devices("device_ids=a&device_ids=b") == devices("device_ids=a%2Cb")
    )
    assert devices("device_ids=a%5C,b") == ["a,b"] == devices("device_ids=a%5C%2Cb")
    assert devices("device_ids=a%5C,b,b&device_ids=a") == ["a", "a,b", "b"]
    assert devices("device_ids=c%5C") == ["c\\"] and devices("device_ids=c%5C%5C,b") == ["b", "c\\"]
    assert devices("device_ids=%5C%5Cserver%5Cx,a") == ["\\\\server\\x", "a"]


def test_groups_in_a_url_are_a_list_of_names(admin: ApiClient):
    for number, name in enumerate(("g", "h", "g,h")):
        group = DeviceGroup.objects.create(name=name)
        assert admin.post(f"devices/d{number}/telemetry", point("m", 10**number, 60)).status == 200
        group.devices.add(Device.objects.get(device_id=f"d{number}"))
    query = "aggregated?metric_name=m&aggregation_type=sum&interval=1000000000"
    query += "&start_time=2020-01-01T00:00:00Z&end_time=2030-01-01T00:00:00Z&"

    def total(groups: str) -> float:
        return sum(row["value"] for row in admin.get(query + groups).json["data_points"])

    assert total("groups=g,h") == 11 == total("groups=g&groups=h")
    assert total("groups=g%5C,h") == 100 and total("") == 111
