"""The evaluator on every shape of commit, against rules in plain Python."""

import itertools
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from alerts.evaluation.evaluator import Evaluator
from alerts.models import Alert, Rule
from alerts.rules import lifecycle
from metrics.models import Series
from metrics.storage.connection import dedicated_connection
from metrics.storage.format.codec import Kind
from metrics.storage.series_registry import current_registry
from metrics.storage.units import SECOND, to_microseconds
from metrics.storage.write.group_commit import IncomingPoints, JournalEntry, writer
from tests.alerts.conftest import run
from tests.alerts.rule_oracle import OracleRule, OracleState, Value

KINDS = {
    "level": Kind.NUMERIC,
    "door": Kind.BOOLEAN,
    "mode": Kind.STRING,
    "unwatched": Kind.NUMERIC,
    "remark": Kind.STRING,
}
RULES = [
    OracleRule("level", ">", 2.0),
    OracleRule("level", "<", 1.0, recovery=2.0),
    OracleRule("level", ">=", 3.0, trigger_count=2),
    OracleRule("level", "<=", 0.0),
    OracleRule("level", "==", 2.0),
    OracleRule("level", "!=", 2.0),
    OracleRule("level", ">", 2.5, average=True, window=20 * SECOND),
    OracleRule("door", "==", True),
    OracleRule("door", "!=", True, trigger_count=3),
    OracleRule("mode", "==", "fault"),
    OracleRule("mode", "!=", "auto", trigger_count=2),
]
VALUES: dict[Kind, st.SearchStrategy[Value]] = {
    Kind.NUMERIC: st.integers(-1, 4).map(float),
    Kind.BOOLEAN: st.booleans(),
    Kind.STRING: st.sampled_from(["auto", "fault", ""]),
}

EXAMPLES = itertools.count()  # each has devices of its own

Point = tuple[str, str, int, Value]  # device, metric, seconds, value


def points_of(seconds: st.SearchStrategy[int]) -> st.SearchStrategy[Point]:
    devices = st.sampled_from(["a", "b", "c"])
    return st.sampled_from(sorted(KINDS)).flatmap(
        lambda metric: st.tuples(devices, st.just(metric), seconds, VALUES[KINDS[metric]])
    )


def fleet_of(second: int) -> st.SearchStrategy[list[Point]]:
    """Return points of many devices at one time."""
    return st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3, unique=True).flatmap(
        lambda metrics: st.tuples(
            *(
                st.tuples(st.just(f"d{number}"), st.just(metric), st.just(second), VALUES[KINDS[metric]])
                for metric in metrics
                for number in range(30)
            )
        ).map(list)
    )


def commits_of(seconds: st.SearchStrategy[int], second: int) -> st.SearchStrategy[list[list[Point]]]:
    commit = st.lists(points_of(seconds), min_size=1, max_size=12) | fleet_of(second)
    return st.lists(commit, min_size=1, max_size=4)


in_any_order = st.lists(commits_of(st.integers(-400, 200), 10), min_size=1, max_size=6)
in_order = st.tuples(*(commits_of(st.integers(30 * step, 30 * step + 29), 30 * step) for step in range(5)))
chosen_rules = st.lists(st.sampled_from(RULES), max_size=4, unique=True)

NOTHING_WATCHED = [("a", "unwatched", 0, 1.0)]
ONE_BREACH = [("a", "level", 1, 9.0)]


def store(points: list[Point], now: int) -> None:
    """Commit points in this order; those of each encoding are one part."""
    current_registry().create_missing(sorted({(device, metric, KINDS[metric]) for device, metric, _, _ in points}))
    ids = {
        (device, metric): pk
        for pk, device, metric in Series.objects.values_list("pk", "device__device_id", "metric_name")
    }
    arrivals = []
    for is_number in (True, False):
        part = [each for each in points if KINDS[each[1]].is_number is is_number]
        if part:
            values: Any = [float(value) if is_number else str(value).encode() for *_, value in part]
            arrivals.append(
                IncomingPoints(
                    np.array([ids[device, metric] for device, metric, _, _ in part], np.int64),
                    np.array([now + second * SECOND for _, _, second, _ in part], np.int64),
                    np.array(values, np.float64 if is_number else object),
                )
            )
    writer().submit(arrivals, JournalEntry("test", time.time(), len(points)))


def create_rule(number: int, rule: OracleRule) -> None:
    lifecycle.create(
        {
            "name": str(number),
            "metric_name": rule.metric,
            "condition": rule.condition,
            "threshold_value": rule.threshold,
            "clear_threshold": rule.recovery,
            "trigger_count": rule.trigger_count,
            "evaluation_window": rule.window // SECOND,
            "aggregation": "avg" if rule.average else "",
        },
        "user:tests",
    )


def stored_alerts() -> dict[tuple[str, str], list[tuple[int, int | None]]]:
    """Return when each alert was opened and resolved, by rule and device."""
    alerts: dict[tuple[str, str], list[tuple[int, int | None]]] = {}
    for alert in Alert.objects.filter(retroactive=False).order_by("triggered_at"):
        times = to_microseconds(alert.triggered_at), to_microseconds(alert.resolved_at) if alert.resolved_at else None
        alerts.setdefault((alert.rule_name, alert.device_name), []).append(times)
    return alerts


def check(rules: list[OracleRule], batches: list[list[list[Point]]], restarts: set[int]) -> None:
    Rule.objects.all().delete()
    Alert.objects.all().delete()
    prefix = f"{next(EXAMPLES)}-"
    batches = [
        [[(prefix + device, *others) for device, *others in points] for points in commits] for commits in batches
    ]
    now = time.time_ns() // 1000 // SECOND * SECOND
    states: dict[tuple[str, str], OracleState] = {}
    with dedicated_connection() as connection:
        evaluator = Evaluator(connection)
        run(evaluator)  # the commits of the example before
        for number, rule in enumerate(rules):
            create_rule(number, rule)
        for number, commits in enumerate(batches):
            if number in restarts:
                evaluator = Evaluator(connection)
            for points in commits:
                store(points, now)
            run(evaluator)
            points = [each for points in commits for each in points]
            for position, rule in enumerate(rules):
                for device in {device for device, *_ in points}:
                    state = states.setdefault((str(position), device), OracleState(rule))
                    series = device, rule.metric
                    own = [(now + second * SECOND, value) for *key, second, value in points if tuple(key) == series]
                    state.add_commits(own, now)
    expected = {key: state.alerts for key, state in states.items() if state.alerts}
    assert stored_alerts() == expected


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen_rules, in_any_order)
@example([RULES[0]], [[NOTHING_WATCHED], [ONE_BREACH]])
def test_evaluator_agrees_with_rules_in_plain_python(
    site: None, rules: list[OracleRule], batches: list[list[list[Point]]]
) -> None:
    check(rules, batches, set())


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen_rules, in_order, st.sets(st.integers(1, 4)))
def test_evaluator_agrees_with_rules_in_plain_python_after_restarts(
    site: None, rules: list[OracleRule], batches: tuple[list[list[Point]], ...], restarts: set[int]
) -> None:
    check(rules, list(batches), restarts)
