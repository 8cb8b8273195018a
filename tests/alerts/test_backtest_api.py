"""Backtests over the API: of rules that are saved, that are not, and that might be."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alerts.models import Rule
from tests.alerts.factories import RULE_FIELDS, create_device, create_rule
from tests.conftest import ApiClient, point

BACKTEST = "alerts/backtest"
VALUES = [20.0, 85.0, 86.0, 20.0, 95.0, 20.0]  # a minute apart, the last of them a minute ago


@pytest.fixture
def measured(admin: ApiClient) -> None:
    for name in ("boiler", "pump"):
        points = [point("temperature", value, 60.0 * (6 - place)) for place, value in enumerate(VALUES)]
        assert admin.post(f"devices/{name}/telemetry/batch", {"data_points": points}).status == 200
    create_device("boiler", "site a")


@pytest.mark.usefixtures("measured")
def test_unsaved_rule_is_evaluated_on_stored_points(admin: ApiClient, viewer: ApiClient):
    answer = admin.post(BACKTEST, {"rule": RULE_FIELDS})
    assert answer.status == 200
    told = answer.json
    assert (told["firings_count"], told["points"], told["notifications"]) == (4, 12, 8)
    assert [(one["device_id"], one["firings"]) for one in told["subjects"]] == [("boiler", 2), ("pump", 2)]
    assert {(one["value"], one["peak"]) for one in told["firings"]} == {(85.0, 86.0), (95.0, 95.0)}
    assert told["chart"]["threshold"] == 80 and told["chart"]["values"] == VALUES
    assert [one["device_id"] for one in viewer.post(BACKTEST, {"rule": RULE_FIELDS}).json["subjects"]] == ["boiler"]
    assert not Rule.objects.exists()


@pytest.mark.usefixtures("measured")
def test_saved_rule_is_evaluated_with_and_without_changes(reader: ApiClient):
    made = create_rule(device_ids=["boiler"])
    for more, firings in (({}, 2), ({"threshold_value": 90}, 1), ({"device_ids": ["boiler", "pump"]}, 4)):
        sent: dict[str, Any] = {"rule_id": made.rule_id} | ({"rule": more} if more else {})
        assert reader.post(BACKTEST, sent).json["firings_count"] == firings
    now = datetime.now(UTC)
    span = {"start_time": (now - timedelta(seconds=150)).isoformat(), "end_time": now.isoformat()}
    assert reader.post(BACKTEST, {"rule_id": made.rule_id} | span).json["firings_count"] == 1
    made.refresh_from_db()
    assert (made.version, made.threshold_value) == (1, 80)


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({}, 422, "rule"),
    ({"rule": RULE_FIELDS | {"threshold_value": [1]}}, 422, "rule.threshold_value"),
    ({"rule": {"name": "a"}}, 422, "rule.metric_name"),
    ({"rule": RULE_FIELDS | {"clear_threshold": 90}}, 422, "clear_threshold"),
    ({"rule": []}, 422, "rule"),
    (
        {"rule": RULE_FIELDS, "start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"},
        422,
        "start_time",
    ),
    ({"rule": RULE_FIELDS, "start_time": "soon"}, 422, "start_time"),
    ({"rule": RULE_FIELDS, "weeks": 3}, 422, "weeks"),
]


@pytest.mark.parametrize(("sent", "status", "field"), WRONG, ids=[f"{i}-{one[2]}" for i, one in enumerate(WRONG)])
def test_invalid_backtest_is_rejected_with_its_field(admin: ApiClient, sent: dict[str, Any], status: int, field: str):
    answer = admin.post(BACKTEST, sent)
    assert answer.status == status and field in [one["field"] for one in answer.json["errors"]], answer.json


def test_unknown_rule_returns_404(admin: ApiClient):
    assert admin.post(BACKTEST, {"rule_id": "rule_none"}).status == 404
