"""`python -m benchmarks.backtest`: duration of backtests over 90 days of a series with a point every 10 seconds.

Runs on its own servers with an empty block cache, on one series and then on as many as one backtest may read.
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

from benchmarks.fill_storage import Fleet, fill
from benchmarks.report import add_row, measure_calibration, median, print_table
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


def measure_rules(fleet: Fleet, devices: int, runs: int, rules: dict[str, dict[str, Any]]) -> None:
    """Backtest each rule on these devices, with the p90 of its values as threshold."""
    from alerts.conditions.spec import read_spec
    from alerts.history.backtest import Backtest, backtest
    from alerts.rules.scope import RuleScope
    from metrics.storage.units import to_datetime
    from rest.caller import Caller

    names = [fleet.device(number) for number in range(devices)]
    scope, end = RuleScope(Caller.internal("benchmark"), names), to_datetime(fleet.end * 1_000_000)
    start = end - timedelta(seconds=fleet.ticks * fleet.step)
    rule = {"metric_name": fleet.metric(fleet.metrics[0]), "condition": ">", "trigger_count": 2}
    for name, fields in rules.items():

        def run_backtest(threshold: float, fields: dict[str, Any] = fields) -> tuple[Backtest, float, float]:
            block_cache.clear_block_cache()
            started, cpu_started = time.perf_counter(), time.process_time()
            result = backtest(read_spec(rule | fields | {"threshold_value": threshold}), scope, start, end)
            return result, time.perf_counter() - started, time.process_time() - cpu_started

        first, _, _ = run_backtest(1e12)
        assert first.chart is not None
        values = sorted(first.chart.values)
        results = [run_backtest(values[int(0.9 * len(values))]) for _ in range(runs)]
        result = results[0][0]
        seconds, cpu_seconds = (median(measured[index] for measured in results) for index in (1, 2))
        label = f"{name}, {len(names)} series" if devices > 1 else name
        add_row(label, f"{result.points:,}", f"{result.count:,}", f"{seconds:.2f} s", f"{cpu_seconds:.2f} s")


def run(folder: Path, days: int, runs: int) -> None:
    environment = {"TELEMETRY_DATA_DIR": str(folder)}
    os.environ.update(environment | {"DJANGO_SETTINGS_MODULE": "telemetry_site.settings"})
    with EmbeddedServers(folder):
        django.setup()
        call_command("migrate", verbosity=0)
        end = int(time.time()) // DAY * DAY
        fleet = Fleet("back", 6, days * DAY // STEP, STEP, end, metrics=KINDS[:1])
        fill(environment, fleet)
        measure_rules(fleet, 1, runs, RULES)
        slow = Fleet("slow", 1, days * 288, 300, end, metrics=KINDS[:1])
        fill(environment, slow)
        measure_rules(slow, 1, 1, {"anomalies, a point every 5 minutes": {"kind": "anomaly"}})
        measure_rules(fleet, 6, runs, {name: RULES[name] for name in ("raw threshold", "average of 5 minutes")})


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.backtest", description=__doc__)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-backtest-"))
    folder.chmod(0o755)
    print(f"calibration {measure_calibration():.1f} ms (about 20 on an idle fast core)", file=sys.stderr)
    try:
        run(folder, arguments.days, arguments.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table("rule", "points", "alerts", "duration, empty cache", "CPU time of the process")


if __name__ == "__main__":
    main()
