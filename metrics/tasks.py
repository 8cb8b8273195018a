"""Celery's way into the verbs of this app. Every task may be run twice at once, and killed at any moment."""

from celery import shared_task

from metrics.devices import delete_device
from metrics.export import jobs
from metrics.models import IdempotentAnswer
from metrics.statistics import request_history
from metrics.storage import shards
from metrics.storage.connection import read_connection
from metrics.storage.merge import restore_damaged, retention, schedule
from metrics.storage.merge.apply_retention_policy import regroup_rows
from metrics.storage.merge.rebuild_point_counts import rebuild_counts
from metrics.storage.read import merge_backlog
from metrics.storage.write import journal


@shared_task
def merge_young_blocks() -> int:
    """Keep the pile of young blocks small. Returns the points merged."""
    with read_connection() as connection:
        return schedule.merge_commits(connection)


@shared_task
def merge_blocks() -> int:
    """Merge runs into larger ones, and finished days into their final shape. Returns the points merged."""
    with read_connection() as connection:
        restore_damaged.restore_readable_blocks(connection)
        merged = schedule.merge_days(connection)
        rebuild_counts(connection)
        return merged


@shared_task
def pack_journal() -> int:
    """Make packs of the journal's lines that are some minutes old. Returns the lines packed."""
    with read_connection() as connection:
        return sum(journal.pack_journal(connection, shard) for shard in shards.all_shards())


@shared_task
def heartbeat() -> None:
    """Note that the workers are alive: somebody took this off the queue."""
    with read_connection() as connection:
        merge_backlog.record_heartbeat(connection)


@shared_task
def drop_expired() -> int:
    """Delete what is past its retention, by the policies as they are now. Returns the rows deleted."""
    with read_connection() as connection:
        regroup_rows(connection)
        request_history.delete_old_minutes(connection)
        return retention.delete_expired(connection)


@shared_task
def remove_deleted() -> int:
    """Take the points of deleted devices out of what is stored. Returns the places that were seen to."""
    with read_connection() as connection:
        return delete_device.run_deletions(connection)


@shared_task
def make_exports() -> int:
    """Make the exports that wait, one after the other. Returns how many were made."""
    return jobs.run_pending_jobs()


@shared_task
def drop_expired_exports() -> int:
    """Delete exports whose time is over, files and rows. Returns how many."""
    return jobs.delete_expired_jobs()


@shared_task
def drop_idempotent_answers() -> int:
    """Forget the answers that no retry gets any more. Returns how many."""
    return IdempotentAnswer.drop_expired()
