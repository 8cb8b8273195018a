"""The follower that judges: it reads each commit once and in order, and what it finds stands in the database before it
goes on.

One evaluator works at a time (by advisory lock), in any of the workers. What it remembers from commit to commit can be
had again from the database: alerts and the cursor from their tables, windows from the stored points. So a killed one
delays and loses nothing, and whatever fails in between is begun anew from there.
"""

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from django.db import connection, transaction

from alerts.evaluation import load_history
from alerts.evaluation.anomalies import Anomalies, Points
from alerts.evaluation.clock_checks import Sweep
from alerts.evaluation.late_data import note_late, note_spans
from alerts.evaluation.point_order import LATE
from alerts.evaluation.restore_state import restore
from alerts.evaluation.rule_series_state import Outcome, Subject
from alerts.evaluation.self_metrics import Figures
from alerts.evaluation.watched_series import Source, Watch, to_judge, watched_rules
from alerts.evaluation.write_alerts import write_turns
from alerts.models import Cursor, Rule, RuleGeneration
from metrics.query.accumulators import Floats, Ints
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.format.layout import merge_by_encoding
from metrics.storage.read import block_cache
from metrics.storage.units import to_datetime, to_microseconds

log = logging.getLogger(__name__)

MOST_COMMITS, MOST_POINTS = 500, 500_000  # of one step
FIRST_COMMITS = 16  # of the first one
LONG = (
    1.0  # seconds of a step, after which the next one is shorter: nobody is told, nor acknowledges, before it is over
)
KEEP_CURSOR = 1.0  # seconds after which the cursor is kept though nothing was found
FROZEN = "10s"  # without a statement within a transaction, after which the database ends it
REGROUPED = 1.0  # seconds between looks for who is in which group
CATCH_UP = 300 * 1_000_000  # µs that are read together where commits are gone
LONGEST_ERROR = 500  # characters that are kept of one

_STATE = """
SELECT (SELECT number FROM alerts_rulegeneration), (SELECT number FROM metrics_revision),
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, shard, seq FROM metrics_head
"""
_NEXT = """
SELECT seq, points, (extract(epoch FROM at) * 1000000)::bigint FROM metrics_young
WHERE shard = %s AND seq > %s ORDER BY seq LIMIT %s
"""


class State(NamedTuple):
    """The database at a moment: generation of the rules, revision of groups, time in µs, last commit of each shard."""

    generation: int
    revision: int
    now: int
    heads: block_cache.CommitCursor


class Commits(NamedTuple):
    """The next commits of some shards: up to which number, when the first and the last of them were made (µs)."""

    cursor: block_cache.CommitCursor
    many: int
    first: int
    last: int


class Gap(Exception):
    """Commits were merged and dropped before they were judged."""


class Overtaken(Exception):
    """Another evaluator has judged meanwhile: the lock went with its connection, and this one did not notice."""


class Evaluator:
    """On a connection of its own, which holds the lock.

    It writes on another one, so whatever it writes is fenced by the cursor: where that is not as this evaluator has
    left it, somebody else has taken over, and nothing is written.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.figures = Figures()
        self._watch = Watch([])
        self._sweep = Sweep(self._check_alone)
        self._anomalies = Anomalies()
        self._known = (-1, -1)  # generation of the rules, revision of groups
        self._renewed_at = 0.0
        self._told = False
        self._most = FIRST_COMMITS
        self.cursor, self._at = _begin()
        self._kept, self._kept_at = dict(self.cursor), 0.0

    def step(self) -> int:
        """Judge what came since the last step; returns how many commits that were."""
        began = time.monotonic()
        state = self._state()
        if self._is_outdated(state):
            self._renew(state)
        self.cursor |= {shard: seq for shard, seq in state.heads.items() if seq < self.cursor.get(shard, seq + 1)}
        commits = None
        try:
            commits = self._next(state)
            if commits is not None:
                self._judge_commits(commits)
                took = time.monotonic() - began
                self._most = max(1, self._most // 2) if took > LONG else min(MOST_COMMITS, 2 * self._most)
                self.figures.took(state.now - commits.first + int(1_000_000 * took))
        except Gap:
            self._catch_up(state)
        if self.cursor != self._kept and time.monotonic() - self._kept_at >= KEEP_CURSOR:
            self._keep()
        self._anomalies.learn(state.now)
        if self.cursor == state.heads:
            self._anomalies.keep()
            self._sweep.step(self.connection, self._watch, state.now)
        if self.figures.is_due():
            self.report(state)
        return 0 if commits is None else commits.many

    def sweep_at_once(self) -> None:
        """With the next step look at the clock, however short a time it is since the last one."""
        self._sweep.due()

    def report(self, state: State | None = None) -> None:
        """Tell how evaluation fares."""
        state = state or self._state()
        behind = {shard: seq - self.cursor[shard] for shard, seq in state.heads.items()}
        self.figures.write(self._watch, state.now, self._at, behind)

    def is_learning(self) -> bool:
        """Whether there are series of which the detector of anomalies has not seen what is stored."""
        return self._anomalies.is_learning

    def keep_learnt(self) -> None:
        """Keep what the detector of anomalies has learnt now, instead of little by little."""
        self._anomalies.keep(everything=True)

    def has_told(self) -> bool:
        """Whether anything was found since this was last asked, of which somebody may have to be told."""
        told, self._told = self._told or self._sweep.has_told(), False
        return told

    def _state(self) -> State:
        rows = self.connection.execute(_STATE).fetchall()
        generation, revision, now = rows[0][:3]
        return State(generation, revision, now, {shard: seq for *_, shard, seq in rows})

    def _is_outdated(self, state: State) -> bool:
        """Whether rules changed; or groups, which may change many times a second."""
        generation, revision = self._known
        if generation != state.generation:
            return True
        return revision != state.revision and time.monotonic() - self._renewed_at >= REGROUPED

    def _renew(self, state: State) -> None:
        """The rules as they are now; what is known of those that did not change is kept."""
        rules, broken = watched_rules()
        for rule, error in broken.items():
            _suspend(rule, error)
        self._known, self._renewed_at = (state.generation, state.revision), time.monotonic()
        if [one.same for one in rules] == [one.same for one in self._watch.rules]:
            return
        self._watch = Watch(rules, restore([one.rule.pk for one in rules]), self._watch)
        self._sweep.watch(rules)
        self._anomalies.watch(self._watch.detected(self.connection, self._anomalies.series))

    def _next(self, state: State) -> Commits | None:
        """The commits to judge next. Raises Gap."""
        cursor, many, points, times = {}, 0, 0, []
        for shard, seq in self.cursor.items():
            if seq >= state.heads[shard]:
                continue
            rows = self.connection.execute(_NEXT, (shard, seq, self._most)).fetchall()
            if not rows or rows[0][0] != seq + 1:
                raise Gap
            for number, count, at in rows:
                if many and points + count > MOST_POINTS:
                    break
                cursor[shard], many, points = number, many + 1, points + count
                times.append(at)
        return Commits(cursor, many, min(times), max(times)) if times else None

    def _judge_commits(self, commits: Commits) -> None:
        before = {shard: self.cursor[shard] for shard in commits.cursor}
        found = block_cache.read_commits_after(self.connection, before, commits.many)
        if not found:
            raise Gap
        parts = [part for (shard, seq), parts in found if seq <= commits.cursor[shard] for part in parts]
        outcomes = [one for columns in merge_by_encoding(parts) for one in self._judge(columns, commits.first)]
        self._write(outcomes, self.cursor | commits.cursor, commits.last)

    def _judge(self, columns: Columns, arrived: int) -> list[Outcome]:
        """What some points change. A rule that fails is suspended, and harms no other."""
        self._sweep.hear(columns)
        sources, watched = to_judge(self._watch, self.connection, columns, arrived - LATE)
        self.figures.judged(len(columns), watched)
        self._detect(sources, arrived)
        points: dict[Subject, list[tuple[int, Ints, Floats]]] = {}
        for (subject, place), times, values in sources:
            points.setdefault(subject, []).append((place, times, values))
        cold = [
            (subject, min(int(times[0]) for _, times, _ in some)) for subject, some in points.items() if subject.is_cold
        ]
        for subject, _ in cold:
            if subject.joined is not None:
                self._watch.complete(self.connection, subject)
        if cold:
            load_history.warm(cold)
        outcomes = []
        for subject, some in points.items():
            try:
                outcomes.append(subject.judge(some, arrived))
            except Exception as error:
                log.exception("rule %s cannot be evaluated", subject.watched.rule.rule_id)
                _suspend(subject.watched.rule.pk, repr(error))
            if subject.place >= 0:
                self._watch.plain.settle(subject)
        return outcomes

    def _detect(self, sources: Sequence[tuple[Source, Ints, Floats]], arrived: int) -> None:
        """Let the detector of anomalies see the points that are about to be judged, once for each series."""
        inputs = [(source.subject.inputs[source.place], times, values) for source, times, values in sources]
        inputs = [one for one in inputs if one[0].comparison.kind == "anomaly"]
        if inputs:
            points: dict[int, Points] = {one.series: (times, values) for one, times, values in inputs}
            found = self._anomalies.judge(points, arrived)
            for one, _, _ in inputs:
                one.detected = found.get(one.series)

    def _write(self, outcomes: Sequence[Outcome], cursor: block_cache.CommitCursor, at: int) -> None:
        """What was found, and how far that is, in one transaction."""
        found = [one for one in outcomes if one.turns]
        late = [one for one in outcomes if one.late]
        self.cursor, self._at = cursor, at
        if found or late:
            self._keep(found, late)
        self._told = self._told or bool(found)
        self._sweep.met(outcomes)

    def _keep(self, found: Sequence[Outcome] = (), late: Sequence[Outcome] = ()) -> None:
        """Keep what was found, and with it how far everything is judged. Raises Overtaken."""
        at = to_datetime(self._at)
        rows = [Cursor(shard=shard, seq=seq, at=at) for shard, seq in self.cursor.items()]
        update = ["seq", "at"]
        with transaction.atomic():
            self._check_alone()
            self.figures.raised(write_turns(found))
            note_late(late)
            Cursor.objects.bulk_create(rows, update_conflicts=True, unique_fields=["shard"], update_fields=update)
        self._kept, self._kept_at = dict(self.cursor), time.monotonic()

    def _check_alone(self) -> None:
        """Until the transaction ends, which the caller holds, nobody else judges. Raises Overtaken.

        The transaction ends, too, when this process is frozen in it.
        """
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = %s", (FROZEN,))
        held = Cursor.objects.select_for_update().order_by("shard").values_list("shard", "seq")
        if dict(held) != self._kept:
            raise Overtaken

    def _catch_up(self, state: State) -> None:
        """Judge by time what came after the last commit that was judged: the commits themselves are gone."""
        log.warning("evaluation was away for %d s and catches up", (state.now - self._at) // 1_000_000)
        start = since = self._at
        series = self._watch.series(self.connection)
        # What was measured before that may have been judged or may have come since: history tells.
        note_spans(dict.fromkeys(series.tolist(), (since - LATE, since - 1)))
        while len(series) and start < state.now:
            end = min(start + CATCH_UP, state.now)
            for columns in load_history.points(series, start, end):
                outcomes = self._judge(columns, since)
                self._write(outcomes, self.cursor, since)
            start = end
        self._write([], state.heads, state.now)


def _begin() -> tuple[block_cache.CommitCursor, int]:
    """Where evaluation goes on: after which commits, the first of which was made at a time (µs)."""
    kept = list(Cursor.objects.all())
    return {one.shard: one.seq for one in kept}, min(to_microseconds(one.at) for one in kept)


def _suspend(rule: int, error: str) -> None:
    """Evaluate a rule no more until somebody has changed it."""
    Rule.objects.filter(pk=rule, suspended="").update(suspended=error[:LONGEST_ERROR])
    RuleGeneration.increment()
