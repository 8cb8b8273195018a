"""Rules as code: errors in a file, and failed writes."""

import time
from typing import Any

import pytest

from alerts.models import Rule, Silence
from alerts.rules import lifecycle
from alerts.rules.as_code.yaml_reader import MAX_FILE_BYTES
from tests.alerts.apply_files import FULL_FILE, apply_text, read_errors, read_state

pytestmark = pytest.mark.usefixtures("site")


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


def test_failed_write_rolls_back_all_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(row: Silence, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the power is gone")

    state_before = read_state()
    monkeypatch.setattr(Silence, "save", fail)
    with pytest.raises(RuntimeError):
        apply_text(FULL_FILE)
    assert read_state() == state_before
