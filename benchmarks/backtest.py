"""`python -m benchmarks.backtest`: how long it takes to try a rule on 90 days of a series at 10 seconds.

On servers of its own. Cold: nothing that was decoded before is remembered. Then the same rule on many series, up to
the most that one backtest may read.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

from benchmarks.figures import calibration, median, say, table
from benchmarks.filling import Fleet, fill
from benchmarks.workload import KINDS
from metrics.storage.read import block_cache
from telemetry_site.embedded.servers import EmbeddedServers

DAY = 86_400  # seconds
STEP = 10  # seconds
RULES: dict[str, dict[str, Any]] = {
    "raw threshold": {},
    "average of 5 minutes": {"aggregation": "avg"},
    "p95 of 5 minutes": {"aggregation": "p95"},
    "standard deviation of 5 minutes": {"aggregation": "stddev"},
    "slope of 5 minutes": {"kind": "trend"},
    "average of a day": {"aggregation": "avg", "evaluation_window": DAY},
    "p95 of a day": {"aggregation": "p95", "evaluation_window": DAY},
    "slope of a day": {"kind": "trend", "evaluation_window": DAY},
    "forecast of an hour from a day": {
        "kind": "forecast",
        "evaluation_window": DAY,
        "parameters": {"horizon": 3600},
    },
}


def tries(fleet: Fleet, devices: int, runs: int, rules: dict[str, dict[str, Any]]) -> None:
    """Each rule on these devices, with a threshold that its values go beyond now and then."""
    from alerts.conditions.spec import read_spec
    from alerts.history.backtest import Backtest, backtest
    from alerts.rules.scope import RuleScope
    from metrics.storage.units import to_datetime
    from rest.caller import Caller

    names = [fleet.device(number) for number in range(devices)]
    scope, end = RuleScope(Caller.internal("benchmark"), names), to_datetime(fleet.end * 1_000_000)
    start = end - timedelta(seconds=fleet.ticks * fleet.step)
    rule = {"metric_name": fleet.metric(fleet.metrics[0]), "condition": ">", "trigger_count": 2}
    for what, fields in rules.items():

        def tried(threshold: float, fields: dict[str, Any] = fields) -> tuple[Backtest, float, float]:
            block_cache.clear_block_cache()
            began, busy = time.perf_counter(), time.process_time()
            found = backtest(read_spec(rule | fields | {"threshold_value": threshold}), scope, start, end)
            return found, time.perf_counter() - began, time.process_time() - busy

        first, _, _ = tried(1e12)
        assert first.chart is not None
        values = sorted(first.chart.values)
        taken = [tried(values[int(0.9 * len(values))]) for _ in range(runs)]
        found = taken[0][0]
        seconds, busy = median(one[1] for one in taken), median(one[2] for one in taken)
        label = f"{what}, {len(names)} series" if devices > 1 else what
        say(label, f"{found.points:,}", f"{found.count:,}", f"{seconds:.2f} s", f"{busy:.2f} s")


def run(folder: Path, days: int, runs: int) -> None:
    environment = {"TELEMETRY_DATA_DIR": str(folder)}
    os.environ.update(environment | {"DJANGO_SETTINGS_MODULE": "telemetry_site.settings"})
    with EmbeddedServers(folder):
        django.setup()
        call_command("migrate", verbosity=0)
        end = int(time.time()) // DAY * DAY
        fleet = Fleet("back", 6, days * DAY // STEP, STEP, end, metrics=KINDS[:1])
        fill(environment, fleet)
        tries(fleet, 1, runs, RULES)
        slow = Fleet("slow", 1, days * 288, 300, end, metrics=KINDS[:1])
        fill(environment, slow)
        tries(slow, 1, 1, {"anomalies, a point every 5 minutes": {"kind": "anomaly"}})
        tries(fleet, 6, runs, {name: RULES[name] for name in ("raw threshold", "average of 5 minutes")})


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.backtest", description=__doc__)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-backtest-"))
    folder.chmod(0o755)
    print(f"calibration {calibration():.1f} ms (a quiet fast core: about 20)", file=sys.stderr)
    try:
        run(folder, given.days, given.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table("rule", "points", "alerts", "from cold", "of it CPU of this process")


if __name__ == "__main__":
    main()
