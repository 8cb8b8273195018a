"""Noise scores, suggested thresholds and shadow comparison."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from alerts import alert_actions
from alerts.history import noise_score
from alerts.history.noise_score import NoiseCounts, count_alerts, score_rules
from alerts.models import Alert, NoiseScore, Resolution, Rule, Status
from alerts.rules import lifecycle
from alerts.rules.shadow import compare
from metrics.models import Device, DeviceGroup
from rest.caller import Caller, Scope
from tests.alerts.factories import RULE_FIELDS, create_alert, create_device, create_rule
from tests.alerts.stored_points import START, store_points

NOW = datetime.now(UTC).replace(microsecond=0)
ALL_DEVICES = Caller.internal("test")


def store_alert(rule: Rule, name: str, minutes_ago: float, duration: float | None = None, **fields: Any) -> Alert:
    """Create an alert triggered `minutes_ago`, recovered after `duration` minutes (None: open)."""
    triggered_at = NOW - timedelta(minutes=minutes_ago)
    alert = create_alert(rule, create_device(name), triggered_at=triggered_at, last_breach_at=triggered_at, **fields)
    if duration is not None:
        resolved_at = {alert.pk: triggered_at + timedelta(minutes=duration)}
        alert_actions.resolve(
            Alert.objects.filter(pk=alert.pk), Resolution.RECOVERED, alert_actions.EVALUATOR, at=resolved_at
        )
    return alert


def set_age(rule: Rule, days: float = 60) -> Rule:
    Rule.objects.filter(pk=rule.pk).update(created_at=datetime.now(UTC) - timedelta(days=days))
    rule.refresh_from_db()
    return rule


def test_alerts_are_counted_by_outcome(site: None) -> None:
    rule = set_age(create_rule())
    # The second begins 5 minutes after the end of the first, the third 30 minutes after the end of the second.
    for ago in (500, 480, 440, 100):
        store_alert(rule, "a", ago, 15 if ago == 500 else 10)
    store_alert(rule, "b", 470, 20)  # alerts of different devices are not flapping
    acknowledged = Alert.objects.filter(pk=store_alert(rule, "c", 50).pk)
    alert_actions.acknowledge(acknowledged, "user:mei")
    alert_actions.resolve(
        acknowledged,
        Resolution.RECOVERED,
        alert_actions.EVALUATOR,
        at={acknowledged.get().pk: NOW - timedelta(minutes=10)},
    )
    alert_actions.comment(Alert.objects.filter(pk=store_alert(rule, "d", 40, 30).pk), "user:mei", "seen")
    alert_actions.resolve(Alert.objects.filter(pk=store_alert(rule, "e", 30).pk), Resolution.PERSON, "user:mei")
    store_alert(rule, "f", 20, 1, shadow=True)
    store_alert(rule, "f", 15, 1, retroactive=True)
    store_alert(rule, "f", 60 * 24 * 31, 5)  # before the period
    counts = count_alerts([rule])[rule.pk]
    assert (counts.alerts, counts.acted_on, counts.self_resolved, counts.flapping) == (8, 3, 5, 1)
    assert counts.median_seconds == pytest.approx(17.5 * 60, abs=1)
    assert counts.per_day == round(8 / 30, 2)


def test_score_is_0_if_all_alerts_are_acted_on_and_100_if_all_flap() -> None:
    assert NoiseCounts(alerts=10, acted_on=10).score == 0
    assert NoiseCounts(alerts=10, self_resolved=10, flapping=10).score == 100
    assert NoiseCounts(alerts=10, acted_on=5, self_resolved=5, flapping=0).score == 42
    assert NoiseCounts(alerts=4).score is None


def test_score_has_an_explanation() -> None:
    explanation = NoiseCounts(alerts=40, acted_on=4, self_resolved=30, flapping=10, median_seconds=90.0).explanation
    assert explanation == (
        "40 alerts in 30 days, 1.33 per day. Acted on: 4 (10 %); resolved by themselves: 30 (75 %); "
        "repeated within 10 minutes: 10 (25 %); median duration: 90 s."
    )
    assert NoiseCounts(alerts=1, days=3).explanation == "1 alert in 3 days: at least 5 are needed for a score."


def test_new_rule_is_scored_by_its_age_in_days(site: None) -> None:
    rule = set_age(create_rule(), days=2)
    for ago in range(6):
        store_alert(rule, "a", 60 * (ago + 1), 1)
    assert count_alerts([rule])[rule.pk].per_day == pytest.approx(3, abs=0.01)


@pytest.fixture
def noisy(site: None) -> Rule:
    """Rule with threshold 80, exceeded by one value in five; nobody acts on its six alerts."""
    values = np.random.default_rng(1).permutation(np.arange(1000) / 10)
    start = (NOW - timedelta(hours=5) - START).total_seconds()
    store_points("furnace", "temperature", (start + np.arange(1000) * 10).tolist(), values.tolist())
    rule = set_age(create_rule())
    for ago in range(6):
        store_alert(rule, "furnace", 60 * (ago + 1), 1)
    return rule


def test_noisy_rule_gets_suggested_thresholds(noisy: Rule) -> None:
    assert score_rules() == 1
    figures = NoiseScore.objects.get(rule=noisy).figures
    assert figures["score"] == 85 and figures["alerts"] == 6
    p95, p99 = figures["suggestions"]
    assert (p95["percentile"], p95["threshold_value"]) == ("p95", pytest.approx(94.9, abs=0.1))
    assert (p99["percentile"], p99["threshold_value"]) == ("p99", pytest.approx(98.9, abs=0.1))
    assert p95["alerts_now"] == p99["alerts_now"] > p95["alerts"] > p99["alerts"] > 0
    assert 0 < p99["alerts"] <= 10  # ten values are over it


def test_rule_for_low_values_gets_low_thresholds(noisy: Rule) -> None:
    lifecycle.change(noisy, {"condition": "<", "threshold_value": 20, "clear_threshold": 30}, "user:mei")
    score_rules()
    p5, p1 = NoiseScore.objects.get(rule=noisy).figures["suggestions"]
    assert (p5["percentile"], p1["percentile"]) == ("p5", "p1")
    assert p1["threshold_value"] < p5["threshold_value"] == pytest.approx(5, abs=0.1)
    noisy.refresh_from_db()
    [condition] = lifecycle.spec_of(noisy).conditions
    # The recovery threshold keeps its distance from the threshold.
    assert noise_score._with_threshold(condition, 5.0).recovery_threshold == 15.0


def test_no_threshold_is_suggested_without_noise_or_values(noisy: Rule) -> None:
    text_rule = create_rule(name="State", metric_name="state", condition="==", threshold_value="open")
    rule_without_data = create_rule(name="Unheard", metric_name="nothing")
    for ago in range(5):
        for rule in (text_rule, rule_without_data):
            store_alert(rule, "furnace", 60 * (ago + 1), 1)
    alert_actions.acknowledge(Alert.objects.filter(pk=store_alert(noisy, "furnace", 0).pk), "user:mei")
    for alert in Alert.objects.filter(rule=noisy):
        alert_actions.comment(Alert.objects.filter(pk=alert.pk), "user:mei", "seen")
    assert score_rules() == 3
    assert {score.rule.name: score.figures["suggestions"] for score in NoiseScore.objects.select_related("rule")} == {
        "Too hot": [],
        "State": [],
        "Unheard": [],
    }


def test_scoring_continues_after_an_interrupted_run(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_score, "RULE_BATCH", 2)
    rules = [create_rule(name=f"rule {number}") for number in range(5)]
    lifecycle.create(RULE_FIELDS | {"name": "shadow"}, "user:mei", shadow_of=rules[0])
    assert score_rules(run_time=-1) == 0
    NoiseScore.objects.create(rule=rules[0], at=NOW - timedelta(days=2))
    NoiseScore.objects.create(rule=rules[1], at=NOW - timedelta(days=3))
    ticks = iter([0.0, 1.0, 2.0, 3.0, 4.0, 11.0])
    assert score_rules(10, clock=lambda: next(ticks)) == 4  # rules without a score come first
    scored = set(NoiseScore.objects.filter(at__gt=NOW - timedelta(days=1)).values_list("rule__name", flat=True))
    assert scored == {"rule 1", "rule 2", "rule 3", "rule 4"}
    assert score_rules() == 5


@pytest.fixture
def live_and_shadow(site: None) -> tuple[Rule, Rule]:
    live = create_rule()
    shadow = lifecycle.create(RULE_FIELDS | {"name": "tried"}, "user:mei", shadow_of=live)
    return set_age(live), set_age(shadow, days=1)


def test_shadow_comparison_lists_alerts_of_both_rules(live_and_shadow: tuple[Rule, Rule]) -> None:
    live, shadow = live_and_shadow
    alert_of_both = store_alert(live, "a", 100, 20)
    store_alert(shadow, "a", 90, 50, shadow=True)
    only_live = store_alert(live, "b", 100, 5)
    later_alert = store_alert(shadow, "b", 94, 5, shadow=True)
    open_alert = store_alert(live, "c", 10)
    store_alert(shadow, "c", 5, shadow=True)
    other_device_alert = store_alert(shadow, "d", 100, shadow=True)
    store_alert(live, "a", 60 * 24 * 2, 5)  # before the shadow rule was created
    comparison = compare(live, shadow, NOW - timedelta(days=30), ALL_DEVICES)
    assert comparison.since == shadow.created_at
    assert comparison.counts() == {"only_live": 1, "only_shadow": 2, "both": 2}
    assert list(comparison.only_live) == [only_live]
    assert list(comparison.only_shadow) == [later_alert, other_device_alert]
    assert list(comparison.both) == [open_alert, alert_of_both]
    assert open_alert.status == Status.ACTIVE


def test_shadow_comparison_covers_visible_devices_only(live_and_shadow: tuple[Rule, Rule]) -> None:
    live, shadow = live_and_shadow
    for name in ("a", "b"):
        store_alert(live, name, 100, 20)
    DeviceGroup.objects.create(name="hall").devices.add(Device.objects.get(device_id="b"))
    comparison = compare(live, shadow, NOW - timedelta(days=1), Caller("user:x", Scope.READ, groups=("hall",)))
    assert [alert.device_name for alert in comparison.only_live] == ["b"]
