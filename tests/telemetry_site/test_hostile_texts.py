"""Texts that a database, a JSON parser or a number cannot hold, in every path, parameter and field: never a 5xx."""

import copy
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import hypothesis
import pytest
import yaml
from django.conf import settings
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from metrics.models import Device, DeviceGroup, MetricDefinition
from tests.alerts.factories import create_alerts, create_rule, create_webhook
from tests.conftest import ApiClient, point
from tests.telemetry_site.routes import all_routes

OPERATIONS = yaml.safe_load((Path(settings.BASE_DIR) / "docs" / "openapi.yaml").read_text())["paths"]
METHODS = ("get", "put", "post", "patch", "delete")
# Written in JSON as they stand here, so that escapes are sent as escapes.
HOSTILE_JSON = (
    r'"a\u0000b"', r'"\ud800"', r'"\udc00x"', '"\x7f\u202e\u200b"', '"' + "x" * 5000 + '"', '""', '" "', '"."',
    "null", "true", "[]", "{}", r'{"a\u0000b": "\u0000"}', r'{"\ud800": 1}', r'[[["\u0000"]]]', "-1", "0.5", "1e999",
    "123456789012345678901234567890", "NaN", '"2026-13-45T00:00:00Z"', '"9999-12-31T23:59:59.999999-23:59"',
    '"0001-01-01T00:00:00+23:59"', "[" * 60 + "]" * 60,
)  # fmt: skip
# As they stand in a URL.
HOSTILE_ESCAPES = (
    "%00", "a%00b", "%ff", "%ed%a0%80", "%zz", "%", "", "%20", ".", "..", "%2F", "a%2Cb", "a%2C%2Cb", "%E2%80%AE",
    "-1", "0", "1e999", "nan", "999999999999999999999", "%2B", "[]", "%7B%22a%22:%22%5Cu0000%22%7D", "x" * 3000,
    "2026-13-45", "0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "%5C", "%27%22%3C", "\\",
)  # fmt: skip
EXAMPLES = 10 * int(os.environ.get("FUZZ_EXAMPLES", "12"))
PARAMETERS = (
    "limit", "offset", "cursor", "search", "q", "after", "device", "metric", "today", "shown", "start_time", "end_time",
    "device_ids", "metric_names", "groups", "status", "level", "page", "tab", "rule", "at", "lookback", "interval",
    "time_range", "dry_run", "unknown",
)  # fmt: skip
HOLE = "hostile-value"


@pytest.fixture
def ids(admin: ApiClient, tmp_path: Path) -> dict[str, str]:
    """Values of path parameters, of existing objects where requests without a hostile text change nothing."""
    device = Device.objects.create(device_id="device_001")
    MetricDefinition.objects.create(name="temperature", data_type="numeric")
    DeviceGroup.objects.create(name="site a")
    admin.post("devices/device_001/telemetry", point())
    rule = create_rule()
    [alert] = create_alerts(rule, device)
    return {
        "device_id": "device_001",
        "metric_name": "temperature",
        "name": "site a",
        "rule_id": rule.rule_id,
        "alert_id": alert.alert_id,
        "channel_id": create_webhook("https://example.com/").channel_id,
        "version": "1",
    }


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in OPERATIONS.items():
        for method in METHODS:
            if method in methods:
                yield method.upper(), path, methods[method]


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda match: quote(ids.get(match[1], "1")), path)


def with_holes(document: Any) -> Iterator[Any]:
    """Yield the document with each value, and each name, replaced by HOLE."""
    yield HOLE
    if isinstance(document, dict):
        for name, value in document.items():
            yield {HOLE if other == name else other: document[other] for other in document}
            for inner in with_holes(value):
                yield document | {name: inner}
    elif isinstance(document, list) and document:
        for inner in with_holes(document[0]):
            yield [inner, *copy.deepcopy(document[1:])]


def example(operation: dict[str, Any]) -> Any:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return next((entry["value"] for entry in content.get("examples", {}).values()), None)


@pytest.mark.slow
def test_hostile_json_is_never_a_server_error(admin: ApiClient, ids: dict[str, str]):
    failures = []
    for method, path, operation in operations():
        body = example(operation)
        for hollow in () if body is None else with_holes(body):
            text = json.dumps(hollow)
            for hostile in HOSTILE_JSON:
                is_name = f'"{HOLE}":' in text
                if is_name and not hostile.startswith('"'):
                    continue
                response = admin.call(method, filled(path, ids), text.replace(f'"{HOLE}"', hostile).encode())
                if response.status >= 500:
                    failures.append((method, path, response.status, text[:200], hostile[:40]))
    assert not failures, "\n".join(map(str, failures))


PIECES = st.one_of(
    st.sampled_from(HOSTILE_ESCAPES),
    st.text(max_size=8).map(lambda text: quote(text.encode("utf-8", "replace"), safe="")),
    st.binary(max_size=6).map(lambda octets: "".join(f"%{octet:02x}" for octet in octets)),
    st.text("/?&=%+.;:@!$'()*,-_~abc0123456789", max_size=8),
)


@pytest.mark.slow
def test_generated_urls_are_never_a_server_error(admin: ApiClient, administrator: ApiClient, ids: dict[str, str]):
    """Routes of the API, the pages and the admin, filled with generated names and followed by generated parameters."""
    templates = sorted(
        {route.template for route in all_routes()} | {"/admin/metrics/device/{x}/", "/static/{x}", "/{x}"}
    )
    parameters = st.lists(st.tuples(st.sampled_from(PARAMETERS), PIECES), max_size=3)

    @hypothesis.settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(templates), st.lists(PIECES, min_size=3, max_size=3), parameters, st.data())
    def send(template: str, names: list[str], query: list[tuple[str, str]], data: st.DataObject) -> None:
        remaining = iter(names)
        path = re.sub(r"{\w+}", lambda _: next(remaining), template)
        method = data.draw(st.sampled_from(("GET", "POST", "PUT", "PATCH")))
        client = data.draw(st.sampled_from((admin, administrator)))
        address = "?".join([path, "&".join(f"{name}={value}" for name, value in query)]).replace(" ", "%20")
        response = client.call(method, address, None if method == "GET" else b"{}")
        assert response.status < 500, (method, address, response.raw[:500])

    send()


@pytest.mark.slow
def test_hostile_parameter_is_never_a_server_error(admin: ApiClient, ids: dict[str, str]):
    failures = []
    for method, path, operation in operations():
        parameters = [entry for entry in operation.get("parameters", ()) if "name" in entry]
        examples = {
            entry["name"]: next(iter(entry["examples"].values()))["value"]
            for entry in parameters
            if entry["in"] == "query" and "examples" in entry
        }
        for entry in parameters:
            for hostile in HOSTILE_ESCAPES:
                others = urlencode({name: text for name, text in examples.items() if name != entry["name"]}, doseq=True)
                address = filled(path, ids)
                if entry["in"] == "query":
                    address += f"?{others}&{entry['name']}={hostile}"
                elif entry["in"] == "path":
                    address = filled(path, ids | {entry["name"]: HOLE}).replace(HOLE, hostile) + f"?{others}"
                else:
                    continue
                response = admin.call(method, address, b"{}" if method in ("POST", "PUT", "PATCH") else None)
                if response.status >= 500:
                    failures.append((method, path, entry["name"], hostile[:40], response.status))
    assert not failures, "\n".join(map(str, failures))
