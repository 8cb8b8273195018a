from collections.abc import Iterator
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from metrics.audit import chain as audit
from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.read.plan import snapshot
from metrics.storage.write import journal_verify as journal


class Command(BaseCommand):
    help = "Follow the chains of checksums of the journal and of the audit; name the first broken link of each."

    def handle(self, *args: Any, **options: Any) -> None:
        with snapshot(pooled=False) as connection:
            heard = audit.Told()
            told = [*_journal(connection, heard), _audit(connection, heard)]
        for holds, line in told:
            if holds:
                self.stdout.write(line)
        broken = [line for holds, line in told if not holds]
        if broken:
            raise CommandError("; ".join(broken))


def _journal(connection: Connection, heard: audit.Told) -> Iterator[tuple[bool, str]]:
    total = 0
    for shard in shards.all_shards():
        seen = audit.seen_of_journal(connection, shard)
        held, broken = journal.verify_journal(connection, shard, seen, partial(heard.hear, shard))
        total += held
        if broken is not None:
            yield False, f"shard {shard}, commit {broken.seq}: {broken.why}; {held:,} commits before it hold"
    yield True, f"{total:,} commits hold"


def _audit(connection: Connection, heard: audit.Told) -> tuple[bool, str]:
    held, broken = audit.verify(connection, heard)
    if broken is not None:
        return False, f"audit entry {broken.number}: {broken.why}; {held:,} entries before it hold"
    return True, f"{held:,} audit entries hold"
