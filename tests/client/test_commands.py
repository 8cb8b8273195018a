"""Every command in a shell against a running site; answers are compared with those of the API."""

import csv
import io
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from alerts.evaluation.evaluator import Evaluator
from alerts.models import Alert, Rule, Silence
from ingest.models import ApiKey
from metrics.models import Device
from tests.alerts.conftest import evaluator as evaluator
from tests.alerts.conftest import run
from tests.client.conftest import Shell
from tests.conftest import ApiClient, point
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.slow

NOW = int(time.time()) - 3600
DOCUMENT_RULE = {
    "rule_id": "high_temperature",
    "name": "High Temperature Alert",
    "condition": "threshold",
    "parameters": {"field": "temperature", "operator": ">", "value": 80.0},
    "severity": "critical",
    "enabled": True,
    "actions": ["log_alert", "send_notification"],
}


def send(caller: ApiClient, *values: float, device: str = "boiler") -> None:
    """Send temperatures one minute apart, the last of them now."""
    points = [point("temperature", value, 60.0 * (len(values) - 1 - index)) for index, value in enumerate(values)]
    assert caller.post(f"devices/{quote(device, safe='')}/telemetry/batch", {"data_points": points}).status == 200


def open_alert(caller: ApiClient, evaluator: Evaluator) -> Alert:
    """Create a rule over 80 and open an alert of it."""
    assert caller.post("alerts/rules", DOCUMENT_RULE).status == 201
    run(evaluator)
    send(caller, 95.0)
    run(evaluator)
    return Alert.objects.get()


# --- the commands of the document ---------------------------------------------------------------------


def test_generated_file_is_ingested_completely(shell: Shell, admin: ApiClient) -> None:
    shell.succeed("telemetry generate simulated_data.json --count 1500 --seed 7")
    events = json.loads((shell.folder / "simulated_data.json").read_text())
    result = shell.succeed("telemetry ingest simulated_data.json --json")
    assert result.json == {"total_count": 1500, "ingested_count": 1500, "failed_count": 0}

    assert set(Device.objects.values_list("device_id", flat=True)) == {event["source"] for event in events}
    last = max((event for event in events if event["type"] == "flow"), key=lambda event: event["timestamp"])
    stored = admin.get(f"devices/{last['source']}/metrics/flow/latest").json
    assert (stored["value"], stored["tags"]) == (last["value"], {"status": last["status"]})


def test_same_seed_generates_the_same_events(shell: Shell) -> None:
    options = "--count 50 --start 2026-05-01T08:00:00Z"
    texts = [shell.succeed(f"telemetry generate - {options} --seed {seed}").out for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.slow
def test_simulated_fleet_is_sent_to_the_site_with_its_labels(shell: Shell, admin: ApiClient) -> None:
    command = "telemetry generate --to-site --register --seed 1 --devices 3 --duration 2d --labels faults.jsonl --json"
    result = shell.succeed(command)
    assert result.json["rejected"] == 0
    devices = admin.get("devices").json["devices"]
    assert len(devices) == 3 and all(row["device_id"].startswith("sim-") for row in devices)
    assert admin.get("stats").json["total_data_points"] == result.json["count"]
    labels = [json.loads(line) for line in (shell.folder / "faults.jsonl").read_text().splitlines()]
    assert labels and all({"device", "metric", "kind", "start", "end"} == label.keys() for label in labels)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("", "either FILE or --to-site"),
        ("a.json --to-site", "either FILE or --to-site"),
        ("a.json --register", "--register requires --to-site"),
        ("a.xml", "format must be one of"),
        ("a.json --count 0", "0 is not in the range"),
        ("a.json --speed 0", "speed must be over 0"),
        ("missing/a.json", "cannot be written"),
    ],
)
def test_unusable_arguments_of_generate_are_named(shell: Shell, arguments: str, part: str) -> None:
    result = shell.run(f"telemetry generate {arguments}")
    assert result.code in (1, 2) and part in result.err and "Traceback" not in result.err


def test_ingest_with_delay_sends_events_one_by_one(shell: Shell) -> None:
    events = "\n".join(
        json.dumps({"timestamp": NOW + n, "source": "s", "type": "t", "value": n, "status": "OK"}) for n in range(3)
    )
    result = shell.succeed("telemetry ingest - --delay 0.1", events)
    assert result.out == "3 of 3 events are stored\n"


def test_rejected_events_are_listed_and_exit_with_1(shell: Shell) -> None:
    events: list[dict[str, Any]] = [{"timestamp": NOW + n, "source": "s", "type": "t", "value": n}
                                    for n in range(1200)]  # fmt: skip
    del events[1100]["type"]
    result = shell.run("telemetry ingest -", json.dumps(events))
    assert (result.code, result.out) == (1, "1199 of 1200 events are stored, 1 were rejected\n")
    assert result.err == "telemetry: event 1100: type: the field is missing\n"


def test_created_rule_file_is_added_listed_and_removed(shell: Shell) -> None:
    shell.succeed("telemetry create-rule rule.json")
    assert json.loads((shell.folder / "rule.json").read_text()) == DOCUMENT_RULE
    added = shell.succeed("telemetry add-rule rule.json --json").json
    rule = Rule.objects.get()
    assert added["rule_id"] == rule.rule_id
    assert (rule.metric_name, rule.threshold_value, rule.level) == ("temperature", 80.0, "critical")

    listed = shell.succeed("telemetry list-rules").lines
    assert [text.split()[:2] for text in listed] == [["RULE", "DOCUMENT"], [rule.rule_id, "high_temperature"]]
    shell.succeed("telemetry remove-rule high_temperature")
    assert not Rule.objects.filter(enabled=True).exists()
    assert shell.succeed("telemetry list-rules --json").json == []


def test_rule_file_with_the_same_rule_id_changes_the_rule(shell: Shell) -> None:
    (shell.folder / "a.json").write_text(json.dumps(DOCUMENT_RULE))
    (shell.folder / "b.json").write_text(
        json.dumps(DOCUMENT_RULE | {"parameters": {"field": "temperature", "operator": ">", "value": 90}})
    )
    shell.succeed("telemetry add-rule a.json b.json")
    assert [rule.threshold_value for rule in Rule.objects.all()] == [90.0]


def test_rule_with_fields_of_the_api_is_created_as_it_is(shell: Shell) -> None:
    body = {"name": "Cold", "metric_name": "temperature", "condition": "<", "threshold_value": 2}
    created = shell.succeed("telemetry add-rule - --json", json.dumps(body)).json
    assert (created["name"], created["condition"], created["threshold_value"]) == ("Cold", "<", 2)


def test_created_config_has_the_settings_of_the_document(shell: Shell) -> None:
    shell.succeed("telemetry create-config config.json")
    config = json.loads((shell.folder / "config.json").read_text())
    assert config == {
        "buffer_size": 10000, "processing_interval": 1.0, "alert_threshold": 0.8, "max_history_size": 100000,
        "enable_websocket": True, "websocket_port": 8765, "enable_http": True, "http_port": 8080,
        "enable_dashboard": True, "dashboard_port": 8081,
    }  # fmt: skip


def test_dashboard_and_patterns_are_those_of_the_api(shell: Shell, admin: ApiClient) -> None:
    send(admin, 21.5)
    answer = shell.succeed("telemetry dashboard --json").json
    expected = admin.get("/dashboard").json
    assert answer.keys() == expected.keys() and answer["recent"] == expected["recent"]
    assert "temperature 21.5" in shell.succeed("telemetry dashboard").out
    assert shell.succeed("telemetry patterns --limit 20 --json").json == admin.get("/patterns?limit=20").json


def test_monitor_shows_open_alerts_and_then_changes(shell: Shell, admin: ApiClient, evaluator: Evaluator) -> None:
    alert = open_alert(admin, evaluator)
    with shell.background("telemetry monitor --duration 30 --interval 0.2 --json") as monitor:
        first = json.loads(monitor.wait_for(alert.alert_id))
        assert (first["type"], first["data"]["value"]) == ("alert.open", 95.0)
        admin.call("PUT", f"alerts/{alert.alert_id}/acknowledge", {"note": "on it"})
        event = json.loads(monitor.wait_for("alert.acknowledged"))
        assert (event["data"]["alert_id"], event["data"]["note"]) == (alert.alert_id, "on it")


def test_monitor_ends_after_its_duration(shell: Shell) -> None:
    assert shell.succeed("telemetry monitor --duration 0.5 --interval 0.1").out == ""


# --- the others ---------------------------------------------------------------------------------------


def test_devices_are_listed_and_one_is_shown_with_its_values(shell: Shell, admin: ApiClient) -> None:
    send(admin, 20.0, 21.5)
    send(admin, 5.0, device="cold room/7")
    assert [row["device_id"] for row in shell.succeed("telemetry devices --json").json] == ["boiler", "cold room/7"]
    shown = shell.succeed("telemetry devices 'cold room/7' --json").json
    assert (shown["device_id"], shown["latest"][0]["value"]) == ("cold room/7", 5.0)
    assert [text.split()[0] for text in shell.succeed("telemetry devices --search boil").lines] == ["DEVICE", "boiler"]


def test_key_is_created_rotated_and_revoked(shell: Shell, admin: ApiClient) -> None:
    send(admin, 20.0)
    key = shell.succeed("telemetry keys create gateway --scope ingest --device boiler --expires-in 1d").out.strip()
    assert ApiClient(admin.port, {"X-Api-Key": key}).post("devices/boiler/telemetry", point()).status == 200
    listed = {row["name"]: row for row in shell.succeed("telemetry keys list --json").json}
    assert (listed["gateway"]["scope"], listed["gateway"]["device_id"]) == ("ingest", "boiler")
    new = shell.succeed(f"telemetry keys rotate {listed['gateway']['id']} --json").json
    assert new["rotated_from"] == listed["gateway"]["id"] and new["key"] != key
    shell.succeed(f"telemetry keys revoke {new['id']}")
    assert ApiKey.objects.get(pk=new["id"]).revoked_at is not None


def test_query_has_the_points_of_the_api_and_a_chart(shell: Shell, admin: ApiClient) -> None:
    send(admin, 20.0, 30.0, 25.0)
    answer = shell.succeed("telemetry query temperature --device boiler --since 1h --json").json
    assert [row["value"] for row in answer["data_points"]] == [20.0, 30.0, 25.0]
    table = shell.succeed("telemetry query temperature --since 1h").lines
    assert table[0].split() == ["TIME", "SERIES", "METRIC", "VALUE", "UNIT"]
    assert [text.split()[-1] for text in table[1:]] == ["20", "30", "25"]
    chart = shell.succeed("telemetry query temperature --device boiler --chart").lines
    assert chart[0] == "temperature boiler" and chart[1].startswith("        30 │") and "⡠⠔⠉" in chart[12]


def test_aggregated_query_has_one_value_per_device(shell: Shell, admin: ApiClient) -> None:
    send(admin, 20.0, 30.0)
    send(admin, 7.0, device="pump")
    line = "telemetry query temperature --aggregation max --interval range --json"
    series = shell.succeed(line).json["series"]
    assert {part["device_id"]: part["data_points"][0]["value"] for part in series} == {"boiler": 30.0, "pump": 7.0}


def test_tail_shows_the_newest_and_then_new_values(shell: Shell, admin: ApiClient) -> None:
    send(admin, 1020.0)
    with shell.background("telemetry tail --device boiler --every 100 --count 3 --json") as tail:
        assert json.loads(tail.wait_for("1020.0"))["metric_name"] == "temperature"
        send(admin, 1021.0)
        tail.wait_for("1021.0")
        send(admin, 1022.0)
        tail.wait_for("1022.0")
        assert tail.process.wait(timeout=20) == 0
    assert [json.loads(text)["value"] for text in tail.lines] == [1020.0, 1021.0, 1022.0]


def test_silence_is_created_listed_and_ended(shell: Shell, admin: ApiClient) -> None:
    created = shell.succeed(
        "telemetry silence create --device boiler --level warning --for 2h --reason 'new pump' --json"
    ).json
    silence = Silence.objects.get()
    assert (silence.silence_id, silence.reason) == (created["silence_id"], "new pump")
    assert (created["device_ids"], created["levels"]) == (["boiler"], ["warning"])
    assert created["silence_id"] in shell.succeed("telemetry silence list").out
    shell.succeed(f"telemetry silence end {created['silence_id']}")
    assert shell.succeed("telemetry silence list --json").json == []


def test_alerts_are_listed_and_acknowledged(shell: Shell, admin: ApiClient, evaluator: Evaluator) -> None:
    alert = open_alert(admin, evaluator)
    assert [row["alert_id"] for row in shell.succeed("telemetry alerts --status active --json").json] == [
        alert.alert_id
    ]
    result = shell.run(f"telemetry ack {alert.alert_id} alt_0000000000000000 --note seen")
    alert.refresh_from_db()
    assert (alert.status, alert.acknowledgement_note) == ("acknowledged", "seen")
    assert result.code == 1 and result.err.startswith("telemetry: alt_0000000000000000: ") and "404" in result.err


def test_export_is_the_file_of_the_api(shell: Shell, admin: ApiClient) -> None:
    send(admin, 20.0, 30.0)
    text = shell.succeed("telemetry export --device boiler --metric temperature --since 1h").out
    assert [row["value"] for row in csv.DictReader(io.StringIO(text))] == ["20.0", "30.0"]
    saved = shell.succeed("telemetry export --device boiler --metric temperature --format parquet -o x.parquet --json")
    assert saved.json["bytes"] == (shell.folder / "x.parquet").stat().st_size
    assert (shell.folder / "x.parquet").read_bytes()[:4] == b"PAR1"
    assert [path.name for path in shell.folder.glob(".*")] == []


@pytest.mark.parametrize("by", ["file", "rule_id"])
def test_backtest_finds_what_the_rule_would_have_opened(shell: Shell, admin: ApiClient, by: str) -> None:
    send(admin, 20.0, 95.0, 20.0)
    (shell.folder / "rule.json").write_text(json.dumps(DOCUMENT_RULE))
    if by == "rule_id":
        shell.succeed("telemetry add-rule rule.json")
    name = "rule.json" if by == "file" else "high_temperature"
    answer = shell.succeed(f"telemetry backtest {name} --since 1h --json").json
    assert [(firing["device_id"], firing["value"]) for firing in answer["firings"]] == [("boiler", 95.0)]
    assert shell.succeed(f"telemetry backtest {name} --since 1h").lines[0].startswith("1 alerts, ")


def test_status_is_that_of_the_api(shell: Shell, admin: ApiClient) -> None:
    send(admin, 20.0)
    wait_until(lambda: admin.get("/telemetry/status").json["devices"]["total"] == 1, 10, "the device is counted")
    answer = shell.succeed("telemetry status --json").json
    assert (answer["status"], answer["series"], answer["devices"]["reporting"]) == ("healthy", 1, 1)


def test_login_stores_a_profile_that_other_commands_use(bare_shell: Shell, admin: ApiClient, reader: ApiClient) -> None:
    url = f"http://127.0.0.1:{admin.port}/"
    (bare_shell.folder / "key").write_text(reader.headers["X-Api-Key"] + "\n")
    bare_shell.succeed(f"telemetry login {url}", admin.headers["X-Api-Key"] + "\n")
    bare_shell.succeed(f"telemetry login {url} --name reader --key-file key")
    file: Path = bare_shell.folder / "config" / "telemetry" / "profiles.json"
    assert file.stat().st_mode & 0o777 == 0o600

    assert bare_shell.run("telemetry keys list").code == 1  # the reader, which was stored last
    assert bare_shell.succeed("telemetry keys list --profile default --json").json
    bare_shell.succeed("telemetry profile use default && telemetry keys list")
    bare_shell.succeed("telemetry profile remove reader")
    listed = bare_shell.succeed("telemetry profile list --json").json
    assert listed == [{"profile": "default", "url": url.rstrip("/"), "user": "", "current": True}]


def test_shell_completes_commands_and_options(bare_shell: Shell) -> None:
    assert "_TELEMETRY_COMPLETE" in bare_shell.succeed("telemetry completion bash").out
    complete = "COMP_WORDS='telemetry {}' COMP_CWORD=1 _TELEMETRY_COMPLETE=bash_complete telemetry"
    assert bare_shell.succeed(complete.format("list-")).lines == ["plain,list-rules"]
