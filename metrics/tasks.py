"""Celery tasks of this app. Every task may run twice at the same time, and be killed at any moment."""

import time

from celery import shared_task

from metrics.devices import delete_device, state_changes
from metrics.events.trim import trim_events
from metrics.export import jobs
from metrics.models import IdempotentAnswer
from metrics.query import last_seen
from metrics.statistics import request_history
from metrics.storage import shards
from metrics.storage.connection import read_connection
from metrics.storage.merge import restore_damaged, retention, schedule
from metrics.storage.merge.apply_retention_policy import regroup_rows
from metrics.storage.merge.rebuild_point_counts import rebuild_counts
from metrics.storage.read import merge_backlog
from metrics.storage.write import journal

_states_due_at = 0.0  # on the monotonic clock


@shared_task
def merge_young_blocks() -> int:
    """Merge unmerged commits. Returns the number of points merged."""
    with read_connection() as connection:
        return schedule.merge_commits(connection)


@shared_task
def merge_blocks() -> int:
    """Restore readable blocks, merge the runs of each day and rebuild marked counts. Returns the points merged."""
    with read_connection() as connection:
        restore_damaged.restore_readable_blocks(connection)
        merged = schedule.merge_days(connection)
        rebuild_counts(connection)
        return merged


@shared_task
def pack_journal() -> int:
    """Pack journal lines that are some minutes old. Returns the number of lines."""
    with read_connection() as connection:
        return sum(journal.pack_journal(connection, shard) for shard in shards.all_shards())


@shared_task
def heartbeat() -> None:
    """Record that the workers take tasks from the queue."""
    with read_connection() as connection:
        merge_backlog.record_heartbeat(connection)


@shared_task
def drop_expired() -> int:
    """Delete expired rows by the current retention policies. Returns the number of rows."""
    with read_connection() as connection:
        regroup_rows(connection)
        request_history.delete_old_minutes(connection)
        return retention.delete_expired(connection)


@shared_task
def remove_deleted() -> int:
    """Delete the stored points of deleted devices. Returns the number of days processed."""
    with read_connection() as connection:
        return delete_device.run_deletions(connection)


@shared_task
def record_device_states() -> int:
    """Record the devices that fell silent or came back as events. Returns the number of devices.

    Does nothing while another read of all devices would cost more than a tenth of a core: it takes seconds for a
    million series.
    """
    global _states_due_at
    began = time.monotonic()
    if began < _states_due_at:
        return 0
    with read_connection() as connection:
        changed = state_changes.record_state_changes(connection)
    ended = time.monotonic()
    _states_due_at = ended + last_seen.REFRESH_COST_FACTOR * (ended - began)
    return changed


def reset_due_times() -> None:
    """Let the next tasks run whatever earlier ones cost."""
    global _states_due_at
    _states_due_at = 0.0


@shared_task
def delete_read_events() -> int:
    """Delete events that every target of the event bus has passed. Returns the number of events."""
    with read_connection() as connection:
        return trim_events(connection)


@shared_task
def make_exports() -> int:
    """Run the queued exports one after the other. Returns the number of exports."""
    return jobs.run_pending_jobs()


@shared_task
def drop_expired_exports() -> int:
    """Delete expired exports, files and rows. Returns the number of exports."""
    return jobs.delete_expired_jobs()


@shared_task
def drop_idempotent_answers() -> int:
    """Delete stored responses past the retry period. Returns the number of responses."""
    return IdempotentAnswer.drop_expired()
