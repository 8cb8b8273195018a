"""No script of a page polls: requests follow events, people, or the time at which a day or a file ends."""

import re
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "dashboard/static/dashboard"
TIMER = re.compile(r"setInterval\((.*?)\);\n", re.DOTALL)
REQUEST = re.compile(r"\b(fetch|load\w*|refresh\w*|read\w*|get[A-Z]\w*|post\w*|send|reload)\(|\brefresh\b")


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.js")), ids=lambda path: path.name)
def test_repeated_timer_makes_no_request(path: Path):
    script = path.read_text()
    timers = TIMER.findall(script)
    assert len(timers) == script.count("setInterval(")
    assert [timer for timer in timers if REQUEST.search(timer)] == []


def test_requests_are_made_in_one_module():
    callers = {path.name for path in SCRIPTS.rglob("*.js") if "fetch(" in path.read_text()}
    assert callers == {"telemetry_api.js", "inbox.js", "rule.js"}  # the last two post their forms
