"""Rules as code: export, apply, plans and errors."""

import io
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alerts.models import Alert, Channel, Route, Rule, RuleGeneration, RuleVersion, Silence
from alerts.rules import lifecycle
from alerts.rules.as_code.apply import apply
from alerts.rules.as_code.diff import format_plan, format_summary
from alerts.rules.as_code.export import export
from alerts.rules.as_code.plan import ApplyPlan, ChangeKind
from alerts.rules.as_code.yaml_reader import MAX_FILE_BYTES, InvalidFile, read_file
from metrics.models import AuditEntry
from rest.names import id_error
from tests.empty_tables import empty_tables

pytestmark = pytest.mark.usefixtures("site")

SECRETS = {"OPS_URL": "https://hooks.example.com/T0/$ecret", "OPS_SECRET": "hush ${not a name}"}
FULL_FILE = """
version: 1
channels:
  - name: ops
    kind: webhook
    url: ${OPS_URL}
    secret: ${OPS_SECRET}
  - {name: mail, kind: email, addresses: [ops@example.com], gather_seconds: 30}
rules:
  - rule_id: high-cpu
    name: High CPU
    metric_name: cpu
    condition: '>'
    threshold_value: 90
    clear_threshold: 80.5
    aggregation: avg
    level: critical
    device_groups: [site a]
    notification_channels: [ops, slack]
    description: |
      {device} is busy.
      It was {value}
  - name: Door open
    metric_name: door
    condition: ==
    threshold_value: open
  - name: Silent
    metric_name: '*'
    kind: absence
    parameters: {grace: 5}
  - name: Hot and wet
    metric_name: temperature
    kind: composite
    parameters:
      operator: and
      conditions:
        - {metric_name: temperature, condition: '>', threshold_value: 30}
        - {metric_name: humidity, condition: '>', threshold_value: 80}
routes:
  - name: nights
    levels: [critical, emergency]
    channels: [mail]
    weekly: {days: [0, 1], from: 22:00, to: 06:00, timezone: Europe/Berlin}
    escalation: [{after_minutes: 10, channels: [ops]}]
silences:
  - silence_id: rebuild-of-a
    reason: site a is rebuilt
    starts_at: TODAY
    ends_at: TOMORROW
    device_groups: [site a]
    rule_ids: [high-cpu]
"""
TODAY = datetime.now(UTC).replace(microsecond=0)
BERLIN = timezone(timedelta(hours=1))
FULL_FILE = FULL_FILE.replace("TODAY", TODAY.astimezone(BERLIN).isoformat())
FULL_FILE = FULL_FILE.replace("TOMORROW", f"{TODAY + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}")


def apply_text(text: str, **options: bool) -> ApplyPlan:
    return apply(text.encode(), SECRETS, **options)


def read_errors(text: str | bytes, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidFile) as raised:
        apply(text if isinstance(text, bytes) else text.encode(), SECRETS if environment is None else environment)
    return [str(error) for error in raised.value.errors]


def count_changes(plan: ApplyPlan) -> tuple[int, int, int, int]:
    kinds = [change.kind for change in plan.changes]
    return (
        kinds.count(ChangeKind.CREATE),
        kinds.count(ChangeKind.CHANGE),
        kinds.count(ChangeKind.DELETE),
        plan.unchanged,
    )


def create_rule(name: str = "r", **fields: Any) -> Rule:
    return lifecycle.create({"name": name, "metric_name": "m", "threshold_value": 1} | fields, "user:somebody")


def read_state() -> list[tuple[int, ...]]:
    """Return row counts of all tables that an apply may change, and the rule generation."""
    counts = [model.objects.count() for model in (Rule, RuleVersion, Channel, Route, Silence, AuditEntry)]
    return [tuple(counts), tuple(RuleGeneration.objects.values_list("number", flat=True))]


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


# --- errors -----------------------------------------------------------------------------------------


def test_all_errors_are_reported_with_lines_and_nothing_changes() -> None:
    state_before = read_state()
    errors = read_errors(
        """version: 1
channels:
  - {name: good, kind: email, addresses: [ops@example.com]}
  - name: bad
    kind: pigeon
    url: ${NOWHERE}
rules:
  - name: good
    metric_name: m
    threshold_value: 1
  - name: bad
    metric_name: m
    threshold_value: [1]
    enabled: yes
    level: loud
  - metric_name: m
  - name: composite
    metric_name: m
    kind: composite
    parameters:
      conditions:
        - {metric_name: a, threshold_value: 1}
        - metric_name: b
          threshold_value: high
  - name: types
    metric_name: 5
    device_ids: [a, 7]
    trigger_count: 0.5
    colour: red
silences:
  - {reason: x, starts_at: 2026-11-21T08:00:00, ends_at: 2100-01-01T00:00:00Z}
dashboards: []
"""
    )
    assert errors == [
        "channels[1].url: environment variable NOWHERE is not set; line 6",
        "rules[1].enabled: true or false is accepted; line 14",
        "rules[2].name: is missing; line 16",
        "rules[3].parameters.conditions[1].threshold_value: a text or boolean is accepted for kind threshold"
        " with == or != and no aggregation; else a number; line 24",
        "rules[4].metric_name: a text is accepted; quote it if YAML reads it as another type; line 26",
        "rules[4].device_ids[1]: a text is accepted; quote it if YAML reads it as another type; line 27",
        "rules[4].trigger_count: a whole number is accepted; line 28",
        f"rules[4].colour: is unknown; accepted are rule_id, {', '.join(lifecycle.FIELDS)}; line 29",
        "silences[0].starts_at: a time with UTC offset is accepted, such as 2026-11-21T08:00:00Z; line 31",
        "dashboards: is unknown; accepted are version, channels, rules, routes, silences, collectors; line 32",
    ]
    assert read_state() == state_before


def test_values_are_validated_as_in_the_api() -> None:
    errors = read_errors(
        """version: 1
rules:
  - {name: a, metric_name: m, threshold_value: 1, level: loud, trigger_count: 1001}
  - {name: b, metric_name: m, threshold_value: high}
  - {name: c, metric_name: m, threshold_value: 1, evaluation_window: 0, kind: guess}
channels:
  - {name: hook, kind: webhook}
routes:
  - {name: nowhere, weekly: {days: [7], from: 22:00, to: 06:00}}
silences:
  - {reason: all, starts_at: 2026-11-21T08:00:00Z, ends_at: 2099-11-21T08:00:00Z, levels: [info]}
"""
    )
    assert [error.split(": ")[0] for error in errors] == [
        "rules[0].level",
        "rules[0].trigger_count",
        "rules[1].threshold_value",
        "rules[2].kind",
        "rules[2].evaluation_window",
        "channels[0].url",
        "routes[0].channels",
        "routes[0].weekly",
        "silences[0].ends_at",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "file: version: 1 and any of channels, rules, routes, silences, collectors are accepted; line 1"),
        ("rules: []", "version: 1 is accepted; line 1"),
        ("version: true", "version: 1 is accepted; line 1"),
        ("version: 1\nrules:", "rules: a list is accepted; [] if there are none; line 2"),
        ("version: 1\nrules: [1]", "rules[0]: the fields of a rule are accepted; line 2"),
        ("version: 1\nrules: []\nrules: []", "rules: is a duplicate of line 2; line 3"),
        ("version: 1\n5: x", "file: keys have to be texts of 1 to 200 characters; line 2"),
        ("version: 1\nrules: [", "file: expected the node content, but found '<stream end>'; line 2"),
        ("version: 1\n---\nversion: 1", "file: but found another document; line 2"),
        ("version: !!python/name:os 1", "version: type '!!python/name:os' is not accepted; line 1"),
        ("version: !!int one", "version: type '!!int' is not accepted; line 1"),
        ("version: 1\nrules: *nowhere", "file: found undefined alias 'nowhere'; line 2"),
        ("version: 1\nx: .inf", "x: a finite number is accepted; line 2"),
        ("version: 1\nx: 1e999", "x: a finite number is accepted; line 2"),
        ("version: 1\nx: " + 500 * "9", "x: a number of up to 400 digits is accepted; line 2"),
        ('version: 1\nx: "\\0"', "x: a text without NUL and surrogate characters is accepted; line 2"),
        ('version: 1\nx: "\\ud800"', "x: a text without NUL and surrogate characters is accepted; line 2"),
        ("version: 1\nx: \x01", "file: character 1 is not accepted; line 2"),
        (b"version: 1\nx: \xff", "file: byte 14 is not UTF-8; line 2"),
        ("version: 1\nx: " + 40 * "[" + 40 * "]", f"x{31 * '[0]'}: more than 32 levels; line 2"),
        (100_000 * "[", "file: more than 32 levels; line 1"),
        ((MAX_FILE_BYTES + 1) * b" ", "file: 1,000,001 bytes or more; up to 1,000,000 are accepted; line 1"),
        ("a: &a [*a]", f"a{31 * '[0]'}: more than 32 levels; line 1"),
    ],
    ids=lambda value: str(value)[:30] if len(value) < 200 else "long",
)  # fmt: skip
def test_invalid_file_is_rejected(text: str | bytes, error: str) -> None:
    assert read_errors(text) == [error]


@pytest.mark.slow
def test_aliases_are_accepted_within_the_size_limit() -> None:
    apply_text("version: 1\nrules: [{name: a, metric_name: m, threshold_value: 1, device_ids: &d [x, y]},"
            " {name: b, metric_name: m, threshold_value: 1, device_ids: *d}]")  # fmt: skip
    assert {tuple(row.device_ids) for row in Rule.objects.all()} == {("x", "y")}
    nested_aliases = "\n".join(f"l{n}: &l{n} [{', '.join(9 * [f'*l{n - 1}'])}]" for n in range(1, 12))
    started = time.monotonic()
    (error,) = read_errors(f"version: 1\nl0: &l0 [lol]\n{nested_aliases}")
    assert "more than 250,000 values or 2,000,000 characters, with repeated aliases" in error
    (error,) = read_errors(f"version: 1\na: &a {'x' * 900_000}\nb: [*a, *a]")
    assert error.startswith("b[1]: more than")
    assert time.monotonic() - started < 20


BOTH_DUPLICATE = ["rules[0]: rules[1] is the same rule", "rules[1]: rules[0] is the same rule"]


@pytest.mark.parametrize(
    ("entries", "errors"),
    [
        ("[{name: a, X}, {name: a, X}]", BOTH_DUPLICATE),
        ("[{rule_id: i, name: a, X}, {name: a, X}]", ["rules[1]: rules[0] is the same rule"]),
        ("[{rule_id: i, name: a, X}, {rule_id: i, name: b, X}]", BOTH_DUPLICATE),
        ("[{rule_id: stored, name: a, X}, {name: known, X}]", ["rules[1]: rules[0] is the same rule"]),
        ("[{rule_id: 'a b', name: a, X}]", ["rules[0].rule_id: 1 to 24 letters, digits, - and _ are accepted"]),
    ],
    ids=["name", "id and name", "id", "stored", "no id"],
)  # fmt: skip
def test_duplicate_rule_in_a_file_is_rejected(entries: str, errors: list[str]) -> None:
    lifecycle.create({"name": "known", "metric_name": "m", "threshold_value": 1}, "user:x", rule_id="stored")
    text = f"version: 1\nrules: {entries}".replace("X", "metric_name: m, threshold_value: 1")
    assert read_errors(text) == [f"{error}; line 2" for error in errors]


def test_two_rules_of_the_same_name_survive_export_and_apply() -> None:
    create_rule("same"), create_rule("same", level="error")
    exported = export()
    assert count_changes(apply_text(exported)) == (0, 0, 0, 2)
    Rule.objects.all().delete()
    apply_text(exported)
    assert export() == exported


def test_failed_write_rolls_back_all_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(row: Silence, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the power is gone")

    state_before = read_state()
    monkeypatch.setattr(Silence, "save", fail)
    with pytest.raises(RuntimeError):
        apply_text(FULL_FILE)
    assert read_state() == state_before


# --- the commands -----------------------------------------------------------------------------------


def run_apply(*args: str, **streams: Any) -> tuple[int, str, str]:
    """Run `manage.py apply`. Returns its exit code, standard output and standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    try:
        call_command("apply", *args, stdout=stdout, stderr=stderr, **streams)
    except CommandError as error:
        return error.returncode, stdout.getvalue(), stderr.getvalue() + str(error)
    except SystemExit as error:
        return int(error.code or 0), stdout.getvalue(), stderr.getvalue()
    return 0, stdout.getvalue(), stderr.getvalue()


def test_exit_codes_of_applied_changed_and_invalid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("version: 1\nrules: [{name: a, metric_name: m, threshold_value: 1}]")
    code, stdout, _ = run_apply(str(file), "--dry-run")
    assert code == 1 and stdout.endswith("1 to be created, 0 to be changed, 0 to be deleted, 0 unchanged\n")
    assert run_apply(str(file))[:2] == (0, stdout.replace("to be ", ""))
    assert run_apply(str(file), "--dry-run")[0] == 0 == run_apply(str(file))[0]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"version: 2\nrules: [7]")))
    code, stdout, stderr = run_apply("-")
    assert (code, stdout) == (2, "")
    assert stderr == "version: 1 is accepted; line 1\nrules[0]: the fields of a rule are accepted; line 2\n" \
        "2 errors; nothing was changed"  # fmt: skip
    assert run_apply(str(tmp_path / "nowhere"))[::2] == (
        2,
        f"{tmp_path}/nowhere cannot be read: No such file or directory",
    )


def test_placeholders_are_replaced_by_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    file = tmp_path / "site.yaml"
    file.write_text(FULL_FILE)
    code, stdout, stderr = run_apply(str(file))
    assert code == 0 and not any(secret in stdout + stderr for secret in SECRETS.values())
    exported = io.StringIO()
    call_command("export_rules", stdout=exported)
    assert exported.getvalue() == export()
    assert "url: ${OPS_URL}" in exported.getvalue()
    with_secrets = io.StringIO()
    call_command("export_rules", "--with-secrets", stdout=with_secrets)
    assert SECRETS["OPS_URL"].replace("$", "$$") in with_secrets.getvalue()


def test_example_of_the_documentation_is_accepted() -> None:
    page = Path("docs/integrate/rules-as-code.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    secrets = {"OPS_URL": "https://hooks.example.com/x", "OPS_SECRET": "s"}
    plan = apply(example.encode(), secrets, dry_run=True)
    assert len(plan.changes) >= 7 and all(change.kind == ChangeKind.CREATE for change in plan.changes)
