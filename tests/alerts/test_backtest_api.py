"""API of backtests: saved rules, unsaved rules, and saved rules with changes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alerts.models import Rule
from tests.alerts.factories import RULE_FIELDS, create_device, create_rule
from tests.conftest import ApiClient, point

BACKTEST = "alerts/backtest"
VALUES = [20.0, 85.0, 86.0, 20.0, 95.0, 20.0]  # one minute apart, the last one a minute ago


@pytest.fixture
def stored_points(admin: ApiClient) -> None:
    for name in ("boiler", "pump"):
        points = [point("temperature", value, 60.0 * (6 - number)) for number, value in enumerate(VALUES)]
        assert admin.post(f"devices/{name}/telemetry/batch", {"data_points": points}).status == 200
    create_device("boiler", "site a")


@pytest.mark.slow
@pytest.mark.usefixtures("stored_points")
def test_unsaved_rule_is_evaluated_on_stored_points(admin: ApiClient, viewer: ApiClient):
    response = admin.post(BACKTEST, {"rule": RULE_FIELDS})
    assert response.status == 200
    result = response.json
    assert (result["firings_count"], result["points"], result["notifications"]) == (4, 12, 8)
    assert [(subject["device_id"], subject["firings"]) for subject in result["subjects"]] == [
        ("boiler", 2),
        ("pump", 2),
    ]
    assert {(firing["value"], firing["peak"]) for firing in result["firings"]} == {(85.0, 86.0), (95.0, 95.0)}
    assert result["chart"]["threshold"] == 80 and result["chart"]["values"] == VALUES
    assert [subject["device_id"] for subject in viewer.post(BACKTEST, {"rule": RULE_FIELDS}).json["subjects"]] == [
        "boiler"
    ]
    assert not Rule.objects.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("stored_points")
def test_saved_rule_is_evaluated_with_and_without_changes(reader: ApiClient):
    rule = create_rule(device_ids=["boiler"])
    for changes, firings in (({}, 2), ({"threshold_value": 90}, 1), ({"device_ids": ["boiler", "pump"]}, 4)):
        body: dict[str, Any] = {"rule_id": rule.rule_id} | ({"rule": changes} if changes else {})
        assert reader.post(BACKTEST, body).json["firings_count"] == firings
    now = datetime.now(UTC)
    span = {"start_time": (now - timedelta(seconds=150)).isoformat(), "end_time": now.isoformat()}
    assert reader.post(BACKTEST, {"rule_id": rule.rule_id} | span).json["firings_count"] == 1
    rule.refresh_from_db()
    assert (rule.version, rule.threshold_value) == (1, 80)


INVALID_BODIES: list[tuple[dict[str, Any], int, str]] = [
    ({}, 400, "rule"),
    ({"rule": RULE_FIELDS | {"threshold_value": [1]}}, 400, "rule.threshold_value"),
    ({"rule": {"name": "a"}}, 400, "rule.metric_name"),
    ({"rule": RULE_FIELDS | {"clear_threshold": 90}}, 422, "clear_threshold"),
    ({"rule": []}, 400, "rule"),
    (
        {"rule": RULE_FIELDS, "start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"},
        422,
        "start_time",
    ),
    ({"rule": RULE_FIELDS, "start_time": "soon"}, 400, "start_time"),
    ({"rule": RULE_FIELDS, "weeks": 3}, 422, "weeks"),
]


@pytest.mark.parametrize(
    ("body", "status", "field"), INVALID_BODIES, ids=[f"{number}-{row[2]}" for number, row in enumerate(INVALID_BODIES)]
)
def test_invalid_backtest_is_rejected_with_its_field(admin: ApiClient, body: dict[str, Any], status: int, field: str):
    response = admin.post(BACKTEST, body)
    assert response.status == status and field in [error["field"] for error in response.json["errors"]], response.json


def test_unknown_rule_returns_404(admin: ApiClient):
    assert admin.post(BACKTEST, {"rule_id": "rule_none"}).status == 404
