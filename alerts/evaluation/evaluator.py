"""The evaluator: reads each commit once and in order, evaluates the rules on its points and writes the alerts.

One evaluator works at a time, in any worker; it holds an advisory lock. Everything it keeps in memory can be restored:
alerts and the cursor from their tables, evaluation windows from the stored points. So when it is killed, or fails,
another one continues from the cursor; alerts are delayed, and none is lost.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from django.db import connection, transaction

from alerts.anomaly_feedback import read_adjustments
from alerts.evaluation.anomalies import LiveDetector
from alerts.evaluation.anomaly_results import AnomalySignal, Points
from alerts.evaluation.clock_checks import ClockChecks
from alerts.evaluation.late_data import store_late_points, store_late_ranges
from alerts.evaluation.load_history import iterate_columns, load_windows
from alerts.evaluation.point_order import LATE
from alerts.evaluation.restore_state import restore_alerts
from alerts.evaluation.rule_series_state import ConditionInput, EvaluationResult, RuleSeriesState
from alerts.evaluation.self_metrics import SelfMetrics
from alerts.evaluation.watched_series import InputPoints, StateInput, WatchedSeries, read_watched_rules, select_inputs
from alerts.evaluation.write_alerts import write_transitions
from alerts.models import Cursor, Rule, RuleGeneration
from metrics.events.model_changes import record_change
from metrics.query.accumulators import Floats, Ints
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.format.layout import merge_by_encoding
from metrics.storage.read.block_cache import CommitCursor, read_commits_after
from metrics.storage.read.commit_stream import StreamState, read_commit_headers, read_stream_state
from metrics.storage.units import to_datetime, to_microseconds

log = logging.getLogger(__name__)

MAX_STEP_COMMITS, MAX_STEP_POINTS = 500, 500_000
FIRST_STEP_COMMITS = 16
MAX_STEP_TIME = 1.0  # seconds; after a longer step the next one takes half as many commits, since its alerts wait
STORE_CURSOR_INTERVAL = 1.0  # seconds between writes of the cursor while there are no alerts to write
IDLE_TRANSACTION_TIMEOUT = "10s"  # after which PostgreSQL ends the transaction of a frozen evaluator
CATCH_UP_PERIOD = 300 * 1_000_000  # µs per read while catching up by time
MAX_CLOCK_AHEAD = 300 * 1_000_000  # µs that a point may be ahead of its commit
MAX_ERROR_LENGTH = 500  # characters of a rule's stored error


class CommitBatch(NamedTuple):
    """The next commits to evaluate: last number per shard, number of commits, commit times of first and last (µs)."""

    cursor: CommitCursor
    commits: int
    first: int
    last: int


class CommitsMissing(Exception):
    """Commits were merged and deleted before they were evaluated."""


class EvaluatorReplaced(Exception):
    """Another evaluator has moved the cursor: the lock was lost with its connection, unnoticed."""


class Evaluator:
    """Evaluates on the connection that holds the lock, and writes on Django's.

    Each write checks that the cursor is as this evaluator left it. If it is not, another evaluator has taken over, and
    EvaluatorReplaced is raised.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.clock_checks = ClockChecks(self._check_replaced)
        self.detector = LiveDetector()
        self._metrics = SelfMetrics()
        self._watched = WatchedSeries([])
        self._rules_version = (-1, -1)  # generation of the rules, revision of device groups
        self._adjustments: dict[int, float] = {}  # by feedback, of the notification thresholds of series
        self._has_changes = False
        self._commit_limit = FIRST_STEP_COMMITS
        self._cursor, self._position = _read_cursor()
        self._stored_cursor, self._stored_at = dict(self._cursor), 0.0

    def step(self) -> int:
        """Evaluate the commits since the last step. Returns their number."""
        began = time.monotonic()
        stream = read_stream_state(self.connection)
        self._refresh_rules(stream)
        self._correct_cursor(stream)
        batch = None
        try:
            batch = self._next_batch(stream)
            if batch is not None:
                self._evaluate_batch(batch)
                elapsed = time.monotonic() - began
                self._adjust_limit(elapsed)
                self._metrics.record_latency(stream.now - batch.first + int(1_000_000 * elapsed))
        except CommitsMissing:
            self._catch_up(stream)
        if self._cursor != self._stored_cursor and time.monotonic() - self._stored_at >= STORE_CURSOR_INTERVAL:
            self._store()
        self._evaluate_waited(self.detector.learn(stream.now), stream.now)
        if self._cursor == stream.heads:
            self.detector.store()
            self.clock_checks.step(self.connection, self._watched, stream.now)
        if self._metrics.is_due():
            self.report(stream)
        return 0 if batch is None else batch.commits

    def report(self, stream: StreamState) -> None:
        """Store the evaluator's own metrics."""
        backlog = {shard: seq - self._cursor[shard] for shard, seq in stream.heads.items()}
        self._metrics.write(self._watched, stream.now, self._position, backlog)

    def take_changes(self) -> bool:
        """Whether an alert was opened or resolved since the last call, so that there may be notifications to send."""
        changes = self.clock_checks.take_changes() or self._has_changes
        self._has_changes = False
        return changes

    def _refresh_rules(self, stream: StreamState) -> None:
        """Read the rules again if rules or groups have changed. States of unchanged rules are kept.

        The generation is read after the stream's heads, and no commit after these heads is evaluated in this step. So
        rules and groups apply to every commit after their own.
        """
        [(generation,)] = self.connection.execute("SELECT number FROM alerts_rulegeneration").fetchall()
        before, self._rules_version = self._rules_version, (generation, stream.revision)
        has_groups = any(watched.rule.device_groups for watched in self._watched.rules)
        if before == self._rules_version or (before[0] == generation and not has_groups):
            return
        self._adjustments = read_adjustments()
        rules, invalid = read_watched_rules()
        for rule, error in invalid.items():
            _suspend_rule(rule, error)
        if [watched.identity for watched in rules] == [watched.identity for watched in self._watched.rules]:
            return
        self._watched = WatchedSeries(rules, restore_alerts([watched.rule.pk for watched in rules]), self._watched)
        self.clock_checks.watch(rules)
        self.detector.watch(self._watched.with_anomaly_rules(self.connection, self.detector.series))

    def _correct_cursor(self, stream: StreamState) -> None:
        """Set the cursor to the head of each shard that it does not have, or whose numbers restarted."""
        for shard, seq in stream.heads.items():
            if seq < self._cursor.get(shard, seq + 1):
                self._cursor[shard] = seq

    def _adjust_limit(self, elapsed: float) -> None:
        if elapsed > MAX_STEP_TIME:
            self._commit_limit = max(1, self._commit_limit // 2)
        else:
            self._commit_limit = min(MAX_STEP_COMMITS, 2 * self._commit_limit)

    def _next_batch(self, stream: StreamState) -> CommitBatch | None:
        """Return the next commits within the limits of a step. Raises CommitsMissing."""
        cursor, count, points, times = {}, 0, 0, []
        for shard, seq in self._cursor.items():
            if seq >= stream.heads.get(shard, seq):
                continue
            commits = read_commit_headers(self.connection, shard, seq, self._commit_limit)
            if not commits or commits[0].seq != seq + 1:
                raise CommitsMissing
            for commit in commits:
                if commit.seq > stream.heads[shard] or (count and points + commit.points > MAX_STEP_POINTS):
                    break
                cursor[shard], count, points = commit.seq, count + 1, points + commit.points
                times.append(commit.committed_at)
        return CommitBatch(cursor, count, min(times), max(times)) if times else None

    def _evaluate_batch(self, batch: CommitBatch) -> None:
        before = {shard: self._cursor[shard] for shard in batch.cursor}
        commits = read_commits_after(self.connection, before, batch.commits)
        commits = [(number, parts) for number, parts in commits if number[1] <= batch.cursor[number[0]]]
        if len(commits) < batch.commits:
            raise CommitsMissing
        parts = merge_by_encoding([part for _, parts in commits for part in parts])
        self._write(self._evaluate(parts, batch.first), self._cursor | batch.cursor, batch.last)

    def _evaluate(self, parts: Sequence[Columns], arrived: int) -> list[EvaluationResult]:
        """Evaluate points that arrived at a time (µs). A rule that raises an error is suspended, the others go on.

        Numbers and texts are evaluated together, since a composite rule may have conditions on both.
        """
        inputs: list[InputPoints] = []
        for columns in parts:
            self.clock_checks.add_points(columns)
            selected, watched = select_inputs(self._watched, self.connection, columns, arrived - LATE)
            self._metrics.count_points(len(columns), watched)
            inputs += selected
        self._detect_anomalies(inputs, arrived)
        return self._evaluate_inputs(inputs, arrived)

    def _evaluate_waited(self, signals: dict[int, AnomalySignal], now: int) -> None:
        """Evaluate the points that waited for series that have learnt."""
        series = np.array(sorted(signals), np.int64)
        inputs: list[InputPoints] = []
        for number, row in zip(series.tolist(), self._watched.rows(self.connection, series).tolist(), strict=True):
            signal = signals[number]
            for state, position in self._watched.other_inputs[row] if row >= 0 else ():
                source = state.inputs[position]
                if source.condition.kind == "anomaly":
                    source.anomaly_signal = self._adjusted(signal, source)
                    inputs.append((StateInput(state, position), signal.times, signal.measured))
        if inputs:
            self._write(self._evaluate_inputs(inputs, now), self._cursor, self._position)
        self.detector.store_learnt()

    def _evaluate_inputs(self, inputs: Sequence[InputPoints], arrived: int) -> list[EvaluationResult]:
        points: dict[RuleSeriesState, list[tuple[int, Ints, Floats]]] = {}
        for (state, position), times, values in inputs:
            points.setdefault(state, []).append((position, times, values))
        self._load_missing_windows(points)
        results = []
        for state, state_points in points.items():
            try:
                results.append(state.evaluate(state_points, arrived))
            except Exception as error:
                log.exception("rule %s failed and is suspended", state.watched.rule.rule_id)
                _suspend_rule(state.watched.rule.pk, repr(error))
            if state.column >= 0:
                self._watched.simple.update(state)
        return results

    def _load_missing_windows(self, points: dict[RuleSeriesState, list[tuple[int, Ints, Floats]]]) -> None:
        """Load the points before the new ones for states that need them and have none."""
        states = []
        for state, state_points in points.items():
            if state.needs_history:
                states.append((state, min(int(times[0]) for _, times, _ in state_points)))
        for state, _ in states:
            if state.composite is not None:
                self._watched.add_all_inputs(self.connection, state)
        if states:
            load_windows(states)

    def _detect_anomalies(self, inputs: Sequence[InputPoints], arrived: int) -> None:
        """Run the anomaly detector on the new points, once for each series, before the rules are evaluated."""
        anomaly_inputs = []
        points: dict[int, Points] = {}
        for (state, position), times, values in inputs:
            source = state.inputs[position]
            if source.condition.kind == "anomaly":
                anomaly_inputs.append(source)
                points[source.series] = times, values
        if points:
            signals = self.detector.detect(points, arrived)
            for source in anomaly_inputs:
                if signal := signals.get(source.series):
                    source.anomaly_signal = self._adjusted(signal, source)

    def _adjusted(self, signal: AnomalySignal, source: ConditionInput) -> AnomalySignal:
        adjustment = self._adjustments.get(source.series, 1.0)
        return replace(signal, adjustment=adjustment).at(source.condition.sensitivity)

    def _write(self, results: Sequence[EvaluationResult], cursor: CommitCursor, position: int) -> None:
        """Move the cursor and write alerts and late ranges, if any, in one transaction."""
        changed = [result for result in results if result.transitions]
        late = [result for result in results if result.late]
        self._cursor, self._position = cursor, position
        if changed or late:
            self._store(changed, late)
        self._has_changes = self._has_changes or bool(changed)
        self.clock_checks.record_breaches(results)

    def _store(self, changed: Sequence[EvaluationResult] = (), late: Sequence[EvaluationResult] = ()) -> None:
        """Store alerts, late ranges and the cursor. Raises EvaluatorReplaced."""
        at = to_datetime(self._position)
        rows = [Cursor(shard=shard, seq=seq, at=at) for shard, seq in self._cursor.items()]
        with transaction.atomic():
            self._check_replaced()
            store_late_points(late)  # before rules are locked, as the evaluation of late data locks them
            self._metrics.count_alerts(write_transitions(changed))
            Cursor.objects.bulk_create(
                rows, update_conflicts=True, unique_fields=["shard"], update_fields=["seq", "at"]
            )
        self._stored_cursor, self._stored_at = dict(self._cursor), time.monotonic()

    def _check_replaced(self) -> None:
        """Lock the stored cursor until the caller's transaction ends. Raises EvaluatorReplaced.

        PostgreSQL ends the transaction when this process is frozen in it.
        """
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = %s", (IDLE_TRANSACTION_TIMEOUT,))
        stored = Cursor.objects.select_for_update().order_by("shard").values_list("shard", "seq")
        if dict(stored) != self._stored_cursor:
            raise EvaluatorReplaced

    def _catch_up(self, stream: StreamState) -> None:
        """Evaluate by time the points after the cursor, since its commits are merged and deleted."""
        log.warning("evaluation is %d s behind and catches up", (stream.now - self._position) // 1_000_000)
        start = since = self._position
        series = self._watched.all_series(self.connection)
        # Earlier points may be evaluated already or may have come since: they are evaluated as late data.
        store_late_ranges(dict.fromkeys(series.tolist(), (since - LATE, since - 1)))
        last = stream.now + MAX_CLOCK_AHEAD
        while len(series) and start < last:
            end = min(start + CATCH_UP_PERIOD, last)
            for parts in iterate_columns(series, start, end):
                self._write(self._evaluate(parts, since), self._cursor, since)
            start = end
        self._write([], self._cursor | stream.heads, stream.now)


def _read_cursor() -> tuple[CommitCursor, int]:
    """Return the last evaluated commit per shard, and the earliest commit time of them (µs)."""
    rows = list(Cursor.objects.all())
    return {row.shard: row.seq for row in rows}, min(to_microseconds(row.at) for row in rows)


def _suspend_rule(rule: int, error: str) -> None:
    """Stop the evaluation of a rule until its next change."""
    with transaction.atomic():
        if Rule.objects.filter(pk=rule, suspended="").update(suspended=error[:MAX_ERROR_LENGTH]):
            record_change("changed", Rule.objects.get(pk=rule), ["suspended"])
        RuleGeneration.increment()
