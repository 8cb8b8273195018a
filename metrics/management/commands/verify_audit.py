from typing import Any

from django.core.management.base import BaseCommand, CommandError

from metrics.storage.chain import verify
from metrics.storage.plan import snapshot


class Command(BaseCommand):
    help = "Follow the journal's chain of checksums; name the first link that is not what it was."

    def handle(self, *args: Any, **options: Any) -> None:
        with snapshot() as connection:
            held, broken = verify(connection, 0)
        if broken is not None:
            raise CommandError(
                f"shard {broken.shard}, commit {broken.seq}: {broken.why}; {held:,} commits before it hold"
            )
        self.stdout.write(f"{held:,} commits hold")
