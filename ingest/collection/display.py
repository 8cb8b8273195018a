"""Collectors in words: their state and their target."""

from datetime import datetime, timedelta

from ingest.collection.kinds import KINDS
from ingest.collection.models import Collector, CollectorState

OVERDUE = timedelta(seconds=60)  # without a worker that collects


def status_of(collector: Collector, now: datetime) -> str:
    """Return `ok`, `failing`, `waiting` for its first collection, `overdue` or `paused`."""
    state: CollectorState = collector.state
    if not collector.enabled:
        return "paused"
    if is_overdue(state, now):
        return "overdue"
    if state.started_at is None:
        return "waiting"
    return "failing" if state.error else "ok"


def is_overdue(state: CollectorState, now: datetime) -> bool:
    """Return whether no worker has collected although the collector has been due for a minute."""
    return state.due_at < now - OVERDUE and (state.leased_until is None or state.leased_until < now)


def target_of(collector: Collector) -> str:
    """Return what is collected, in a few words."""
    kind = KINDS.get(collector.kind)
    try:
        return kind.target(collector.configuration) if kind else ""
    except (KeyError, TypeError):  # of a configuration that was stored by another version
        return ""
