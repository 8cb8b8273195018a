from collections.abc import Iterator
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from metrics.audit.verify_chain import JournalAnchors, read_commit_anchors, verify_audit
from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.read.plan import snapshot
from metrics.storage.write import journal_verify as journal


class Command(BaseCommand):
    help = "Verify the checksum chains of the journal and the audit; print the first broken link of each."

    def handle(self, *args: Any, **options: Any) -> None:
        with snapshot(pooled=False) as connection:
            anchors = JournalAnchors()
            results = [*_verify_journal(connection, anchors), _verify_audit(connection, anchors)]
        for is_valid, line in results:
            if is_valid:
                self.stdout.write(line)
        broken = [line for is_valid, line in results if not is_valid]
        if broken:
            raise CommandError("; ".join(broken))


def _verify_journal(connection: Connection, anchors: JournalAnchors) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is valid, message)."""
    total = 0
    for shard in shards.all_shards():
        commit_anchors = read_commit_anchors(connection, shard)
        valid, broken = journal.verify_journal(connection, shard, commit_anchors, partial(anchors.add, shard))
        total += valid
        if broken is not None:
            yield False, f"shard {shard}, commit {broken.seq}: {broken.reason}; {valid:,} commits before it are valid"
    yield True, f"{total:,} commits are valid"


def _verify_audit(connection: Connection, anchors: JournalAnchors) -> tuple[bool, str]:
    valid, broken = verify_audit(connection, anchors)
    if broken is not None:
        return False, f"audit entry {broken.number}: {broken.reason}; {valid:,} entries before it are valid"
    return True, f"{valid:,} audit entries are valid"
