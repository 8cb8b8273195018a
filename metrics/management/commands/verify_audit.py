from typing import Any

from django.core.management.base import BaseCommand, CommandError

from metrics.storage import shards
from metrics.storage.chain import verify
from metrics.storage.plan import snapshot


class Command(BaseCommand):
    help = "Follow the journal's chain of checksums; name the first link that is not what it was."

    def handle(self, *args: Any, **options: Any) -> None:
        total = 0
        with snapshot() as connection:
            for shard in shards.every():
                held, broken = verify(connection, shard)
                total += held
                if broken is not None:
                    where = f"shard {shard}, commit {broken.seq}"
                    raise CommandError(f"{where}: {broken.why}; {held:,} commits before it hold")
        self.stdout.write(f"{total:,} commits hold")
