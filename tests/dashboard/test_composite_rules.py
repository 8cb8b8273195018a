"""The form of a composite rule: it saves edited conditions and keeps the others unchanged."""

import html
import json
import re
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import expect

from alerts.api.rule_serializers import RuleSerializer
from alerts.conditions.spec import CONDITION_KINDS
from alerts.models import Rule, RuleKind
from alerts.rules import lifecycle
from dashboard import rule_words
from dashboard.forms.conditions import TYPED
from tests.conftest import ApiClient, point
from tests.dashboard.conftest import BrowserPage, in_thread, sign_in
from tests.dashboard.submitted_form import SubmittedForm

WARM = {"metric_name": "temperature", "condition": ">", "threshold_value": 30}
RISING = {"kind": "trend", "metric_name": "humidity", "threshold_value": 0.5, "parameters": {"measure": "rate"}}
ANOMALOUS = {"kind": "anomaly", "metric_name": "vibration"}
FORECAST = {"kind": "forecast", "metric_name": "disk", "threshold_value": 95, "parameters": {"horizon": 7200}}

# As API clients write them: with and without defaults, and with fields that have no effect.
CONDITIONS: list[dict[str, Any]] = [
    WARM,
    WARM | {"kind": "threshold", "aggregation": "", "clear_threshold": None, "evaluation_window": 300},
    WARM | {"aggregation": "avg", "evaluation_window": 90.5, "clear_threshold": 28.25},
    WARM | {"aggregation": "p99.9", "evaluation_window": 604_800},
    WARM | {"aggregation": None, "parameters": None, "threshold_value": -1.5e300},
    {"metric_name": "temperature", "threshold_value": 0},
    {"metric_name": "door", "condition": "==", "threshold_value": True},
    {"metric_name": "door", "condition": "!=", "threshold_value": "true"},
    {"metric_name": "door", "condition": "==", "threshold_value": " <ajar> & \"5\" "},
    {"metric_name": "code", "condition": "==", "threshold_value": "5"},
    {"metric_name": " temperature & more ", "threshold_value": 1, "note": {"by": ["mei"]}},
    RISING,
    RISING | {"parameters": {}, "condition": "<="},
    RISING | {"parameters": {"measure": "relative"}, "clear_threshold": 0.25, "evaluation_window": 86_400},
    ANOMALOUS,
    ANOMALOUS | {"condition": "<", "threshold_value": "of no use", "parameters": {"measure": "slope"}},
    FORECAST,
    FORECAST | {"condition": "<", "threshold_value": 5, "parameters": {"horizon": 2_591_999}, "evaluation_window": 61},
]  # fmt: skip


def create_rule(conditions: list[dict[str, Any]], operator: str | None = "and", **overrides: Any) -> Rule:
    """Create a composite rule as the API does."""
    parameters = {"conditions": conditions} | ({} if operator is None else {"operator": operator})
    rule_fields = {"name": "Several", "kind": "composite", "parameters": parameters} | overrides
    serializer = RuleSerializer(data=rule_fields)
    assert serializer.is_valid(), serializer.errors
    rule = lifecycle.create(serializer.validated_data, "key:program")
    rule.refresh_from_db()
    return rule


def form_of(client: Client, rule: Rule) -> dict[str, list[str]]:
    return SubmittedForm(client.get(f"/rules/{rule.rule_id}/").content.decode()).fields


def save(client: Client, rule: Rule, fields: dict[str, list[str]]) -> str:
    return client.post(f"/rules/{rule.rule_id}/", fields, follow=True).content.decode()


def conditions_of(rule: Rule) -> Any:
    rule.refresh_from_db()
    return rule.parameters["conditions"]


class TestUnedited:
    @pytest.mark.slow
    @pytest.mark.parametrize("condition", CONDITIONS, ids=json.dumps)
    @pytest.mark.parametrize("operator", ["and", "or", None])
    def test_unedited_condition_is_saved_unchanged(self, client: Client, condition: dict[str, Any], operator: str):
        rule = create_rule([condition, ANOMALOUS], operator)
        document_before = lifecycle.document_of(rule)
        assert "No changes to save." in save(client, rule, form_of(client, rule))
        rule.refresh_from_db()
        assert rule.version == 1 and lifecycle.document_of(rule) == document_before

    @pytest.mark.slow
    def test_maximum_number_of_conditions_and_duplicates_stay_unchanged(self, client: Client):
        equivalent = [WARM, WARM | {"kind": "threshold"}, WARM | {"aggregation": ""}]
        rule = create_rule([*equivalent, RISING, ANOMALOUS, FORECAST, *reversed(equivalent[:2])])
        page = client.get(f"/rules/{rule.rule_id}/").content.decode()
        assert "No changes to save" in save(client, rule, SubmittedForm(page).fields)
        assert "data-blank" not in page.split("<template")[0]

    @pytest.mark.slow
    def test_fields_without_input_stay_unchanged(self, client: Client):
        other_fields = {
            "metric_name": "of the room",
            "threshold_value": 7.5,
            "clear_threshold": 3,
            "aggregation": "avg",
        }
        timeout, description = 2_591_999, "Look\nat {device}.\n\nNow."
        rule = create_rule([WARM, RISING], **other_fields, auto_resolve_timeout=timeout, description=description)
        assert "No changes to save" in save(client, rule, form_of(client, rule))

    @pytest.mark.slow
    def test_editing_one_condition_leaves_the_others_unchanged(self, client: Client):
        rule = create_rule(CONDITIONS[1:5])
        conditions_before, fields = conditions_of(rule), form_of(client, rule)
        fields["c_threshold_value"][2] = "31,5"
        assert "Version 2 saved." in save(client, rule, fields)
        edited = WARM | {
            "kind": "threshold",
            "aggregation": "p99.9",
            "evaluation_window": 604_800,
            "threshold_value": 31.5,
        }
        assert conditions_of(rule) == [*conditions_before[:2], edited, conditions_before[3]]


class TestEdited:
    @pytest.mark.slow
    def test_every_kind_of_condition_can_be_selected(self, client: Client):
        page = client.get("/rules/new/").content.decode()
        row = page[page.index('name="c_kind"') :].split("</select>")[0]
        assert sorted(re.findall(r'value="(\w+)"', row)) == sorted(CONDITION_KINDS)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("inputs", "expected"),
        [
            ({}, {"kind": "threshold", "condition": ">", "threshold_value": 30}),
            (
                {"aggregation": "avg", "clear_threshold": "28", "evaluation_window": "10",
                 "evaluation_window_unit": "60"},
                {"kind": "threshold", "aggregation": "avg", "condition": ">", "threshold_value": 30,
                 "clear_threshold": 28, "evaluation_window": 600},
            ),
            (
                {"kind": "trend", "measure": "relative", "aggregation": "avg", "horizon": "5"},
                {"kind": "trend", "parameters": {"measure": "relative"}, "condition": ">", "threshold_value": 30},
            ),
            ({"kind": "anomaly", "clear_threshold": "3"}, {"kind": "anomaly"}),
            (
                {"kind": "forecast", "horizon": "2", "horizon_unit": "3600", "condition": "<"},
                {"kind": "forecast", "parameters": {"horizon": 7200}, "condition": "<", "threshold_value": 30},
            ),
        ],
    )  # fmt: skip
    def test_row_saves_only_the_fields_of_its_kind(
        self, client: Client, inputs: dict[str, str], expected: dict[str, Any]
    ):
        rule = create_rule([ANOMALOUS, FORECAST])
        fields = form_of(client, rule)
        for name, text in ({"metric_name": "temperature", "threshold_value": "30"} | inputs).items():
            fields[f"c_{name}"][2] = text
        assert "Version 2 saved." in save(client, rule, fields)
        assert conditions_of(rule) == [ANOMALOUS, FORECAST, {"metric_name": "temperature"} | expected]
        assert "No changes to save" in save(client, rule, form_of(client, rule))

    @pytest.mark.slow
    def test_blank_row_is_ignored(self, client: Client):
        rule = create_rule([WARM, RISING, ANOMALOUS])
        fields = form_of(client, rule)
        fields["c_metric_name"][0] = fields["c_threshold_value"][0] = " "
        save(client, rule, fields)
        assert conditions_of(rule) == [RISING, ANOMALOUS]
        assert rule.metric_name == "humidity"  # the metric of the first remaining condition

    def test_submitted_rows_create_a_composite_rule(self, client: Client):
        fields = SubmittedForm(client.get("/rules/new/").content.decode()).fields
        fields |= {"name": ["Hot and odd"], "kind": ["composite"], "operator": ["or"], "trigger_count": ["1"]}
        fields |= {"c_kind": ["threshold", "anomaly"], "c_metric_name": ["temperature", "vibration"]}
        fields["c_threshold_value"] = ["30", ""]
        client.post("/rules/new/", fields)
        rule = Rule.objects.get()
        assert rule.parameters == {"operator": "or", "conditions": [WARM | {"kind": "threshold"}, ANOMALOUS]}
        assert rule.metric_name == "temperature"
        assert rule_words.sentence(rule) == "temperature is above 30 or vibration is anomalous"

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("inputs", "field", "error"),
        [
            ({"metric_name": ""}, "c_metric_name", "the name of a metric is accepted"),
            ({"threshold_value": "warm"}, "c_threshold_value", "a text or boolean is accepted"),
            ({"threshold_value": ""}, "c_threshold_value", "a number is accepted"),
            ({"clear_threshold": "99"}, "c_clear_threshold", "must not be above threshold_value"),
            ({"clear_threshold": "well"}, "c_clear_threshold", "Enter a number"),
            ({"evaluation_window": "8e9"}, "c_evaluation_window", "seconds are accepted"),
            ({"evaluation_window": "long"}, "c_evaluation_window", "Enter a number"),
            ({"kind": "forecast", "horizon": ""}, "c_horizon", "seconds are accepted"),
            ({"kind": "absence"}, "c_kind", "accepted are threshold, trend, anomaly, forecast"),
            ({"kind": "trend", "measure": "none"}, "c_measure", "accepted are slope, rate, relative"),
            ({"aggregation": "sort of"}, "c_aggregation", "is unknown"),
            ({"condition": "~"}, "c_condition", "accepted are"),
        ],
    )  # fmt: skip
    def test_error_is_shown_only_at_its_input_and_row(
        self, client: Client, inputs: dict[str, str], field: str, error: str
    ):
        rule = create_rule([ANOMALOUS, WARM])
        fields = form_of(client, rule)
        for name, text in inputs.items():
            fields[f"c_{name}"][1] = text
        response = client.post(f"/rules/{rule.rule_id}/", fields)
        page = html.unescape(response.content.decode())
        rows = page[page.index('<ul id="conditions"') : page.index("<template")]
        first_row, second_row, *_ = rows.split("<li")[1:]
        assert response.status_code == 422 and error in second_row and error not in page.replace(second_row, "")
        assert re.findall(r'name="(\w+)"[^>]*aria-invalid', page) == [field] and "aria-invalid" not in first_row
        if set(inputs) <= set(TYPED):
            # The input keeps its text.
            assert SubmittedForm(response.content.decode()).fields[field][1] == fields[field][1]
        assert "marked below." in page

    @pytest.mark.slow
    def test_any_metric_is_rejected_in_a_condition(self, client: Client):
        rule = create_rule([WARM, RISING])
        fields = form_of(client, rule)
        fields["c_metric_name"][0] = "*"
        page = client.post(f"/rules/{rule.rule_id}/", fields).content.decode()
        assert (
            re.findall(r'name="(\w+)"[^>]*aria-invalid', page) == ["c_metric_name"]
            and "accepted for absence rules only" in page
        )

    @pytest.mark.slow
    def test_too_few_conditions_and_a_missing_metric_are_rejected(self, client: Client):
        rule = create_rule([WARM, RISING])
        fields = form_of(client, rule)
        fields["c_metric_name"][0] = ""
        response = client.post("/rules/new/", fields | {"metric_name": [""]})
        assert response.status_code == 422 and "<b>Metric:</b> is required" in response.content.decode()
        fields["c_threshold_value"][0] = ""
        assert "<b>Conditions:</b> a list of 2 to 8" in save(client, rule, fields)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", [kind for kind in RuleKind.values if kind != "composite"])
    def test_another_kind_of_rule_ignores_the_rows(self, client: Client, kind: str):
        rule = create_rule([WARM, RISING], threshold_value=3)
        inputs = {"threshold_value": ["9"], "horizon": ["5"]}
        save(client, rule, form_of(client, rule) | {"kind": [kind], "metric_name": ["temperature"]} | inputs)
        rule.refresh_from_db()
        assert rule.kind == kind and "conditions" not in rule.parameters
        assert rule.threshold_value == (None if kind in ("anomaly", "absence") else 9)


def test_sentence_describes_every_kind_of_condition(site: None):
    sentence = rule_words.sentence(
        create_rule([WARM | {"aggregation": "avg", "evaluation_window": 600}, RISING, ANOMALOUS, FORECAST])
    )
    assert sentence.replace("\xa0", " ") == (
        "the average of temperature over 10 min is above 30 and the change per second of humidity is above 0.5"
        " and vibration is anomalous and disk is above 95 in 2 h"
    )


class TestBrowser:
    @pytest.mark.slow
    def test_row_shows_the_inputs_of_its_kind(self, client: Client, desktop: BrowserPage):
        sign_in(desktop, f"/rules/{in_thread(create_rule, [WARM, ANOMALOUS, FORECAST]).rule_id}/")
        rows = desktop.page.locator("#conditions > li")
        expect(rows).to_have_count(3)
        for n, fields in enumerate(
            (("Aggregation", "Threshold", "Recovery threshold"), (), ("Forecast horizon", "Threshold"))
        ):
            for name in ("Aggregation", "Trend measure", "Threshold", "Forecast horizon"):
                expect(rows.nth(n).get_by_label(name, exact=True)).to_be_visible(visible=name in fields)
        rows.nth(1).get_by_label("Kind of condition").select_option("trend")
        expect(rows.nth(1).get_by_label("Trend measure")).to_be_visible()
        expect(rows.nth(1).get_by_label("Threshold", exact=True)).to_be_visible()
        expect(rows.nth(0).get_by_label("Trend measure")).to_be_hidden()
        desktop.page.reload()
        desktop.page.get_by_role("button", name="Discard").click()  # the draft that the browser kept
        desktop.page.get_by_role("button", name="Save as version 2").click()
        expect(desktop.page.get_by_text("No changes to save.")).to_be_visible()

    @pytest.mark.slow
    def test_conditions_are_added_removed_backtested_and_saved(
        self, client: Client, admin: ApiClient, desktop: BrowserPage
    ):
        points = [point("temperature", 31 if 100 < n < 110 else 20, seconds_ago=10 * n) for n in range(200)]
        assert admin.post("devices/room-0/telemetry/batch", {"data_points": points}).status == 200
        rule = in_thread(create_rule, [WARM, ANOMALOUS])
        sign_in(desktop, f"/rules/{rule.rule_id}/")
        rows = desktop.page.locator("#conditions > li")
        expect(rows.nth(0).get_by_role("button", name="Remove this condition")).to_be_hidden()
        desktop.page.get_by_role("button", name="Add condition").click()
        expect(rows.nth(2).get_by_label("Metric")).to_be_focused()
        rows.nth(2).get_by_label("Kind of condition").select_option("trend")
        desktop.page.keyboard.type("temperature")
        rows.nth(2).get_by_label("Metric").fill("temperature")
        desktop.page.get_by_role("button", name="Run backtest").click()
        expect(desktop.page.locator("#backtest-status")).to_contain_text(
            "Not replayed: condition 3, threshold value: a number"
        )
        rows.nth(2).get_by_label("Threshold", exact=True).fill("0")
        rows.nth(1).get_by_role("button", name="Remove this condition").click()
        expect(rows).to_have_count(2)
        desktop.page.get_by_role("button", name="Run backtest").click()
        expect(desktop.page.locator("#backtest-status")).to_contain_text("Replayed in")
        desktop.page.get_by_role("button", name="Save as version 2").click()
        expect(desktop.page.get_by_text("Version 2 saved.")).to_be_visible()
        trend = {"kind": "trend", "metric_name": "temperature", "parameters": {"measure": "slope"}}
        assert in_thread(conditions_of, rule) == [WARM, trend | {"condition": ">", "threshold_value": 0}]
