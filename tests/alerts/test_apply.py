"""Rules as code: export, apply and plans."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alerts.models import Alert, Channel, Route, Rule, RuleGeneration, Silence
from alerts.rules import lifecycle
from alerts.rules.as_code.apply import apply
from alerts.rules.as_code.diff import format_plan, format_summary
from alerts.rules.as_code.export import export
from alerts.rules.as_code.yaml_reader import read_file
from metrics.models import AuditEntry
from rest.names import id_error
from tests.alerts.apply_files import (
    FULL_FILE,
    SECRETS,
    TODAY,
    apply_text,
    count_changes,
    create_rule,
    read_errors,
    read_state,
)
from tests.empty_tables import empty_tables

pytestmark = pytest.mark.usefixtures("site")


# --- export and apply -------------------------------------------------------------------------------


def test_apply_creates_all_objects_of_a_file() -> None:
    assert count_changes(apply_text(FULL_FILE)) == (8, 0, 0, 0)
    ops = Channel.objects.get(name="ops")
    assert (ops.url, ops.secret, ops.created_by) == (SECRETS["OPS_URL"], SECRETS["OPS_SECRET"], "command:apply")
    high = Rule.objects.get(rule_id="high-cpu")
    assert (high.threshold_value, high.clear_threshold, high.version) == (90, 80.5, 1)
    assert high.description == "{device} is busy.\nIt was {value}\n"
    assert high.versions.get().by == "command:apply"
    assert Route.objects.get().weekly == {"days": [0, 1], "from": "22:00", "to": "06:00", "timezone": "Europe/Berlin"}
    silence = Silence.objects.get(silence_id="rebuild-of-a")
    assert silence.starts_at == TODAY and silence.ends_at == TODAY + timedelta(days=1)
    assert set(AuditEntry.objects.values_list("actor", flat=True)) == {"command:apply"}


@pytest.mark.slow
def test_export_applied_to_an_empty_site_restores_it() -> None:
    apply_text(FULL_FILE)
    exported = export()
    assert not any(secret in exported for secret in SECRETS.values())
    empty_tables()
    RuleGeneration.objects.create(pk=1)
    apply_text(exported)
    assert export() == exported
    assert Channel.objects.get(name="ops").url == SECRETS["OPS_URL"]
    with_secrets = export(with_secrets=True)
    assert count_changes(apply(with_secrets.encode(), {})) == (0, 0, 0, 8)


def test_applying_twice_changes_nothing() -> None:
    apply_text(FULL_FILE)
    state_before = read_state()
    assert count_changes(apply_text(FULL_FILE, prune=True)) == (0, 0, 0, 8)
    assert read_state() == state_before


def test_shadow_rule_is_neither_exported_nor_pruned() -> None:
    shadow = lifecycle.create(
        {"name": "tried", "metric_name": "m", "threshold_value": 1}, "user:x", shadow_of=create_rule()
    )
    assert "tried" not in export()
    apply_text(export(), prune=True)
    assert Rule.objects.filter(pk=shadow.pk).exists()
    (error,) = read_errors(
        f"version: 1\nrules: [{{rule_id: {shadow.rule_id}, name: t, metric_name: m, threshold_value: 1}}]"
    )
    assert error == "rules[0].rule_id: Alert rule with this Rule id already exists.; line 2"


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00{}"), min_size=1, max_size=40)
# Without the characters that names must not have: a filter of TEXTS would reject most of them.
NAMES = (
    st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="{}"), min_size=1, max_size=40)
    .map(str.strip)
    .filter(lambda name: name != "" and id_error(name) is None)
)
NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def rule_fields(draw: st.DrawFn) -> dict[str, Any]:
    """Generate the fields of a valid rule."""
    fields: dict[str, Any] = {
        "name": draw(NAMES),
        "metric_name": draw(NAMES.filter(lambda name: name != "*")),
        "description": draw(TEXTS | st.just("")),
        "level": draw(st.sampled_from(["info", "warning", "error", "critical", "emergency"])),
        "enabled": draw(st.booleans()),
        "device_ids": draw(st.lists(NAMES, max_size=3)),
        "notification_channels": draw(st.lists(NAMES, max_size=3)),
        "evaluation_window": draw(st.integers(1, 604_800)),
        "trigger_count": draw(st.integers(1, 1000)),
        "auto_resolve_timeout": draw(st.none() | st.integers(1, 86_400)),
    }
    if draw(st.booleans()):
        fields |= {"condition": "==", "threshold_value": draw(TEXTS | st.booleans() | NUMBERS)}
    else:
        fields |= {"condition": draw(st.sampled_from([">", "<="])), "threshold_value": draw(NUMBERS)}
        fields["aggregation"] = draw(st.sampled_from(["", "avg", "p95"]))
    return fields


@pytest.mark.slow
@given(rules=st.lists(rule_fields(), min_size=1, max_size=4))
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_rule_survives_export_and_apply(rules: list[dict[str, Any]]) -> None:
    Rule.objects.all().delete()
    for fields in rules:
        lifecycle.create(fields, "user:somebody")
    exported = export()
    assert count_changes(apply_text(exported)) == (0, 0, 0, len(rules))
    rules_before = {row.rule_id: lifecycle.document_of(row) for row in Rule.objects.all()}
    Rule.objects.all().delete()
    apply_text(exported)
    assert {row.rule_id: lifecycle.document_of(row) for row in Rule.objects.all()} == rules_before
    assert export() == exported


@pytest.mark.parametrize("text", ["\x85", "a\u2028b", "\n x", "a \n", " ", "'", "- a: b", "a\n\n b\t", "\x7f", "😀 #x"])
def test_any_text_survives_export_and_apply(text: str) -> None:
    create_rule(name="r" if id_error(text) else f"x{text}y", description=text, device_ids=[text])
    assert count_changes(apply_text(export())) == (0, 0, 0, 1)


def test_export_is_read_alike_by_yaml_1_1() -> None:
    create_rule(
        "no", metric_name="1e5", threshold_value="22:00", condition="==", device_ids=["on", "2026-11-21", "0x1f"]
    )
    rule = yaml.safe_load(export())["rules"][0]
    assert (rule["name"], rule["metric_name"], rule["threshold_value"]) == ("no", "1e5", "22:00")
    assert (
        rule["device_ids"]
        == ["on", "2026-11-21", "0x1f"]
        == read_file(export().encode()).value["rules"][0]["device_ids"]
    )


def test_two_rules_of_the_same_name_survive_export_and_apply() -> None:
    create_rule("same"), create_rule("same", level="error")
    exported = export()
    assert count_changes(apply_text(exported)) == (0, 0, 0, 2)
    Rule.objects.all().delete()
    apply_text(exported)
    assert export() == exported


# --- changes ----------------------------------------------------------------------------------------


def test_dry_run_lists_every_change_and_makes_none() -> None:
    apply_text(FULL_FILE)
    state_before = read_state()
    changed_file = FULL_FILE.replace("threshold_value: 90", "threshold_value: 95").replace(
        "name: Silent", "name: Quiet"
    )
    plan = apply(changed_file.encode(), SECRETS | {"OPS_URL": "https://new.example.com/"}, prune=True, dry_run=True)
    assert read_state() == state_before
    assert list(format_plan(plan)) == [
        "~ channel “ops”",
        "    url: (hidden)",
        "~ rule “High CPU”",
        "    threshold_value: 90 → 95",
        "+ rule “Quiet”",
        '    name: "Quiet"',
        '    metric_name: "*"',
        '    kind: "absence"',
        '    parameters: {"grace": 5}',
        "- rule “Silent”",
    ]
    assert format_summary(plan, done=False) == "1 to be created, 2 to be changed, 1 to be deleted, 5 unchanged"


def test_changed_rule_gets_a_version_and_omitted_fields_get_defaults() -> None:
    rule = create_rule(level="critical", cooldown_minutes=5)
    apply_text(f"version: 1\nrules: [{{rule_id: {rule.rule_id}, name: renamed, metric_name: m, threshold_value: 1}}]")
    rule.refresh_from_db()
    assert (rule.name, rule.level, rule.cooldown_minutes, rule.version) == ("renamed", "warning", 0, 2)
    assert rule.versions.first().by == "command:apply"


def test_rule_without_id_is_identified_by_name() -> None:
    rule = create_rule("known")
    apply_text("version: 1\nrules: [{name: known, metric_name: m, threshold_value: 2}]")
    assert Rule.objects.get().rule_id == rule.rule_id
    create_rule("known")
    (error,) = read_errors("version: 1\nrules: [{name: known, metric_name: m, threshold_value: 2}]")
    assert error == "rules[0]: 2 rules have this name; set rule_id to choose one; line 2"


def test_objects_not_in_the_file_are_deleted_only_with_prune() -> None:
    apply_text(FULL_FILE)
    one_rule = "version: 1\nrules: [{name: Silent, metric_name: '*', kind: absence, parameters: {grace: 5}}]"
    assert count_changes(apply_text(one_rule)) == (0, 0, 0, 1)
    assert count_changes(apply_text(one_rule, prune=True)) == (0, 0, 3, 1)
    assert [row.name for row in Rule.objects.all()] == ["Silent"]
    assert (Channel.objects.count(), Route.objects.count(), Silence.objects.count()) == (
        2,
        1,
        1,
    )  # sections that the file omits
    deleted = AuditEntry.objects.filter(action="deleted", object_type="alert rule", actor="command:apply")
    assert deleted.count() == 3
    assert count_changes(apply_text("version: 1\nchannels: []\nroutes: []\nsilences: []", prune=True)) == (0, 0, 4, 0)


def test_open_alert_of_a_pruned_rule_is_resolved_and_kept() -> None:
    now = datetime.now(UTC)
    rule = create_rule()
    alert = Alert.objects.create(
        rule=rule, rule_name="r", device_name="d", metric_name="m", triggered_at=now, last_breach_at=now
    )
    apply_text("version: 1\nrules: []", prune=True)
    alert.refresh_from_db()
    assert (alert.status, alert.resolution, alert.resolved_by) == ("resolved", "rule", "command:apply")
    assert alert.rule is None


def test_expired_silence_is_neither_created_nor_deleted() -> None:
    expired = "{reason: was, starts_at: '2020-01-01T00:00:00Z', ends_at: '2020-01-02T00:00:00Z'}"
    assert count_changes(apply_text(f"version: 1\nsilences: [{expired}]")) == (0, 0, 0, 1)
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    Silence.objects.create(reason="history", starts_at=now - 2 * hour, ends_at=now - hour, created_by="user:x")
    Silence.objects.create(reason="one alert", alert_id="alt_1", ends_at=now + hour, created_by="user:x")
    assert count_changes(apply_text("version: 1\nsilences: []", prune=True)) == (0, 0, 0, 0)
    assert "history" not in export() and "one alert" not in export()


def test_omitted_secrets_are_unchanged() -> None:
    apply_text(FULL_FILE)
    apply_text("version: 1\nchannels: [{name: ops, kind: webhook, gather_seconds: 5}]")
    ops = Channel.objects.get(name="ops")
    assert (ops.url, ops.secret, ops.gather_seconds) == (SECRETS["OPS_URL"], SECRETS["OPS_SECRET"], 5)
    apply_text("version: 1\nchannels: [{name: ops, kind: webhook, url: 'https://$$5.example.com/', secret: ''}]")
    ops.refresh_from_db()
    assert (ops.url, ops.secret) == ("https://$5.example.com/", "")


def test_channels_with_similar_names_get_distinct_variables() -> None:
    for name in ("ops-eu", "ops eu", "größer", "Ωμέγα"):
        Channel.objects.create(name=name, kind="webhook", url=f"https://{len(name)}.example.com/")
    urls = {channel["name"]: channel["url"] for channel in yaml.safe_load(export())["channels"]}
    assert urls["größer"] == "${GR_SSER_URL}" and urls["Ωμέγα"] == "${CHANNEL_URL}"
    assert urls["ops-eu"] != urls["ops eu"] and urls["ops-eu"].startswith("${OPS_EU_")
