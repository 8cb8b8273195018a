"""Points that came too late, or after later ones: noted, and judged as history with what was measured around them."""

from collections.abc import Iterator, Sequence

import numpy as np
from django.db import connection, transaction
from django.db.models import Q

from alerts import alert_actions
from alerts.evaluation import load_history
from alerts.evaluation.rule_series_state import Outcome, Span, Subject, Watched
from alerts.evaluation.watched_series import Watch, watched_rules
from alerts.evaluation.write_alerts import alert_of, filled
from alerts.models import Alert, Resolution, Status
from metrics.storage.connection import read_connection
from metrics.storage.units import to_datetime

QUIET = 3 * 1_000_000  # µs that no more points of a range have to come before it is judged
BEFORE, AFTER = 3600 * 1_000_000, 3600 * 1_000_000  # µs around a range in which an episode may have begun, or end
PIECE = 86_400 * 1_000_000  # µs that are read together
MOST = 200  # series that are judged together
REPLAYED = ("threshold", "trend", "forecast", "composite")  # what is judged the same at any time

_CLAIM = """
DELETE FROM alerts_laterange WHERE series IN (
    SELECT series FROM alerts_laterange WHERE since <= %s ORDER BY since LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING series, time_from, time_to
"""
_NOTE = """
INSERT INTO alerts_laterange (series, time_from, time_to, since)
SELECT series, time_from, time_to, now()
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) n(series, time_from, time_to) ORDER BY series
ON CONFLICT (series) DO UPDATE SET time_from = least(alerts_laterange.time_from, EXCLUDED.time_from),
    time_to = greatest(alerts_laterange.time_to, EXCLUDED.time_to), since = now()
"""


def note_late(outcomes: Sequence[Outcome]) -> None:
    """Remember what is to be judged as history. The caller holds a transaction."""
    spans: dict[int, Span] = {}
    for one in outcomes:
        for series, (low, high) in one.late.items():
            before = spans.get(series, (low, high))
            spans[series] = min(before[0], low), max(before[1], high)
    note_spans(spans)


def note_spans(spans: dict[int, Span]) -> None:
    """Remember, by series, from when to when there is something to be judged as history."""
    if spans:
        with connection.cursor() as cursor:
            cursor.execute(_NOTE, (list(spans), *map(list, zip(*spans.values(), strict=True))))


def judge_late(now: int, most: int = MOST) -> int:
    """Judge ranges that have been quiet for some seconds, at a time (µs): alerts that were over when their points came
    stand in the history, and notify nobody. Returns how many series were looked at.

    A range and what is found in it are one transaction: a killed worker leaves the range to the next one.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_CLAIM, (to_datetime(now - QUIET), most))
        ranges = {series: (low, high) for series, low, high in cursor.fetchall()}
        if ranges:
            rules = [one for one in watched_rules()[0] if one.spec.kind in REPLAYED]
            alert_actions.open_alerts(filled([alert for one in _subjects(rules, ranges) for alert in _alerts(*one)]))
        return len(ranges)


def _subjects(rules: list[Watched], ranges: dict[int, Span]) -> Iterator[tuple[Subject, Span]]:
    """What is about these series, and from when to when it is to be judged anew."""
    watch = Watch(rules)
    with read_connection() as reader:
        watch.slots(reader, np.array(sorted(ranges), np.int64))
        for subject in list(watch.subjects.values()):
            spans = [ranges[one.series] for one in subject.inputs.values() if one.series in ranges]
            if subject.joined is not None:
                watch.complete(reader, subject)
            yield subject, (min(low for low, _ in spans), max(high for _, high in spans))


def _alerts(subject: Subject, span: Span) -> Iterator[Alert]:
    """The episodes that began in a span, but those of which there is an alert. Day by day, however long it is."""
    start, end = span[0] - subject.watched.spec.lookback - BEFORE, span[1] + AFTER
    alert: Alert | None = None
    last = start
    for first in range(start, end, PIECE):
        held = load_history.columns_of([one.series for one in subject.inputs.values()], first, min(first + PIECE, end))
        points = [(place, *one.points(held[one.series])) for place, one in subject.inputs.items() if one.series in held]
        signal, turns = subject.judge(points, arrived=start)[1:3]
        if signal is None:
            continue
        for raised, at in turns:
            last = int(signal.times[at])
            if raised:
                alert = alert_of(subject, signal, at) if span[0] <= last <= span[1] else None
            elif alert is not None:
                yield from _over(subject, alert, last)
                alert = None
        last = int(signal.times[-1])
    if alert is not None:
        yield from _over(subject, alert, last)


def _over(subject: Subject, alert: Alert, last: int) -> Iterator[Alert]:
    """An alert that was over at a time (µs), unless there was one at the time."""
    rule, device, metric = subject.key
    among = Alert.objects.filter(
        rule_id=rule, device_id=device, metric_name=metric, triggered_at__lte=to_datetime(last)
    )
    if not among.filter(Q(resolved_at__gte=alert.triggered_at) | Q(resolved_at=None)).exists():
        alert.status, alert.retroactive, alert.resolution = Status.RESOLVED, True, Resolution.RETROACTIVE
        alert.resolved_at, alert.resolved_by = to_datetime(last), alert_actions.EVALUATOR
        yield alert
