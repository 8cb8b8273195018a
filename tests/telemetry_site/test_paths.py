"""Paths with escapes: an escaped slash is no separator, in both lanes and in pages; invalid paths are 400."""

import http.client
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

from alerts.models import Silence
from metrics.models import Device, DeviceGroup, MetricDefinition
from tests.alerts.factories import create_rule
from tests.conftest import API, ApiClient, point

# Device IDs that look like other paths of the API, or contain escapes.
DEVICES = (
    "site/metrics", "site/maintenance", "site/stats", "site/telemetry", "site/telemetry/batch",
    "site/metrics/m/latest", "site/metrics/m/range", "/dev/sda", "a//b", "100%", "a%2Fb", "%", "%25", "a,b", "a?b#c",
    "Ofen 3", "Öl/Druck", "日本",
)  # fmt: skip
METRICS = ("m/latest", "m/range", "cpu/0", "50%", "a%2Fb", "größe")
SHORT_API = "/api/v1"


def escaped(name: str) -> str:
    return quote(name, safe="")


@pytest.mark.slow
@pytest.mark.parametrize("prefix", [API, SHORT_API])
@pytest.mark.parametrize("lane", ["fast lane", "Django"])
def test_escaped_slash_is_no_separator(admin: ApiClient, administrator: ApiClient, lane: str, prefix: str):
    client = admin if lane == "fast lane" else administrator
    for device_id in ("site", *DEVICES):
        Device.objects.create(device_id=device_id)
    for number, device_id in enumerate(DEVICES):
        path = f"{prefix}/devices/{escaped(device_id)}"
        assert client.post(f"{path}/telemetry", point("m", number)).json["device_id"] == device_id
        assert client.post(f"{path}/telemetry/batch", {"data_points": [point("n", number + 0.5)]}).status == 200
        for metric in METRICS:
            assert client.post(f"{path}/telemetry", point(metric, number)).status == 200
    for number, device_id in enumerate(DEVICES):
        path = f"{prefix}/devices/{escaped(device_id)}"
        assert client.get(path).json["device_id"] == device_id
        assert set(client.get(f"{path}/metrics").json) == {"m", "n", *METRICS}
        assert client.get(f"{path}/stats").json["device_id"] == device_id
        for metric, value in (("m", number), ("n", number + 0.5), *((metric, number) for metric in METRICS)):
            latest = client.get(f"{path}/metrics/{escaped(metric)}/latest").json
            assert (latest["device_id"], latest["metric_name"], latest["value"]) == (device_id, metric, value)
            points = client.get(f"{path}/metrics/{escaped(metric)}/range").json["data_points"]
            assert [row["value"] for row in points] == [value]
    assert client.get(f"{prefix}/devices/site/metrics").json == []  # nothing reached another device


def test_slash_in_a_device_id_may_be_unescaped_where_the_path_is_unambiguous(admin: ApiClient):
    assert admin.post("devices/plant/line/1/telemetry", point("m", 5)).json["device_id"] == "plant/line/1"
    assert admin.get("devices/plant/line/1").json["device_id"] == "plant/line/1"
    assert admin.get("devices/plant%2fline/1/metrics/m/latest").json["value"] == 5


def test_deleting_a_device_does_not_end_the_maintenance_of_another(admin: ApiClient):
    for device_id in ("plant", "plant/maintenance"):
        Device.objects.create(device_id=device_id)
    assert admin.post("devices/plant/maintenance", {"minutes": 60}).status in (200, 201)
    silences = list(Silence.objects.values())
    assert admin.call("DELETE", "devices/plant%2Fmaintenance").status == 202
    assert admin.get("devices/plant%2Fmaintenance").status == 404 and admin.get("devices/plant").status == 200
    assert list(Silence.objects.values()) == silences


def test_names_of_metrics_and_groups_may_look_like_paths(admin: ApiClient):
    for name in ("m/latest", "a%2Fb", "x/y"):
        assert admin.post("metrics", {"name": name, "data_type": "numeric"}).status == 201
        assert admin.get(f"metrics/{escaped(name)}").json["name"] == name
    for name in ("site/devices", "site"):
        assert admin.post("groups", {"name": name}).status == 201
    assert admin.get("groups/site%2Fdevices").json["name"] == "site/devices"
    assert admin.get("groups/site/devices").json["devices"] == []
    assert admin.call("DELETE", "groups/site%2Fdevices").status == 200
    assert list(DeviceGroup.objects.values_list("name", flat=True)) == ["site"]


def test_escaped_slash_does_not_turn_one_action_into_another(admin: ApiClient, administrator: ApiClient):
    rule_id = create_rule().rule_id
    response = admin.call("PUT", f"alerts/rules/{rule_id}%2Fenable", {"enabled": False})
    assert response.status == 404 and f"{rule_id}/enable is not known" in response.json["detail"]
    assert admin.get(f"alerts/rules/{rule_id}").json["enabled"] is True
    device = Device.objects.create(device_id="d")
    response = administrator.get(f"/admin/metrics/device/{device.pk}%2Fdelete/")
    assert response.status in (301, 302, 404)  # not the page that deletes the device
    assert administrator.get(f"/admin/metrics/device/{device.pk}/delete/").status == 200


@pytest.mark.slow
def test_pages_of_devices_with_slashes(administrator: ApiClient, anonymous: ApiClient):
    for device_id in DEVICES:
        device = Device.objects.create(device_id=device_id, name="Pump")
        path = f"/devices/{escaped(device_id)}/"
        page = administrator.get(path)
        assert page.status == 200 and f'data-device="{device_id}"' in page.raw.decode()
        redirects = administrator.get(path.removesuffix("/")), anonymous.get(path)
        assert (
            unquote(redirects[0].headers["Location"]) == unquote(path) and "//" not in redirects[0].headers["Location"]
        )
        assert parse_qs(urlsplit(redirects[1].headers["Location"]).query)["next"] == [path.replace("%2C", ",")]
        assert administrator.get(f"/admin/metrics/device/{device.pk}/change/").status == 200


INVALID = ("%", "%2", "%zz", "%%2F", "a%", "%00", "a%00b", "%ff", "%C3", "%ed%a0%80", "%c0%af", "%u002F")
TEMPLATES = (
    "{}", "devices/{}", "devices/{}/telemetry", "devices/{}/telemetry/batch", "devices/{}/metrics", "devices/{}/stats",
    "devices/{}/metrics/{}/latest", "devices/{}/metrics/{}/range", "devices/{}/metrics/{}/anomalies",
    "devices/{}/maintenance", "metrics/{}", "groups/{}", "groups/{}/devices", "alerts/{}", "alerts/rules/{}",
    "alerts/rules/{}/enable", "export/jobs/{}", "deletions/{}", "keys/{}", "rejected/{}", "/devices/{}/", "/recent/{}/",
    "/alerts/{}/", "/rules/{}/", "/admin/metrics/device/{}/change/", "/admin/{}/", "/static/{}", "/{}",
)  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
def test_invalid_path_is_rejected_with_400(admin: ApiClient, administrator: ApiClient, template: str):
    for client in (admin, administrator):
        for name in INVALID:
            for method, body in (("GET", None), ("POST", b"{}"), ("PUT", b"{}"), ("PATCH", b"{}"), ("DELETE", None)):
                response = client.call(method, template.replace("{}", name), body)
                assert response.status == 400, (method, name)
                assert response.json["status"] == 400 and "path" in response.json["detail"]
    assert not Device.objects.exists() and not MetricDefinition.objects.exists()


@pytest.mark.parametrize(
    "path",
    ["%2e%2e/manage.py", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fetc/passwd", "../../etc/passwd",
     "%252e%252e/manage.py", "dashboard", "dashboard/", "x" * 5000, "//etc/passwd", "%5c.."],
)  # fmt: skip
def test_static_path_outside_of_the_folder_is_404(administrator: ApiClient, path: str):
    connection = http.client.HTTPConnection("127.0.0.1", administrator.port, timeout=30)
    connection.request("GET", f"/static/{path}")
    assert connection.getresponse().status == 404
    connection.close()
