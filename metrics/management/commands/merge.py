from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from metrics.storage.connection import connect
from metrics.storage.merge import restore_damaged, schedule


class Command(BaseCommand):
    help = "Merge the blocks that are due."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="merge everything, including day blocks of today")

    def handle(self, *args: Any, **options: Any) -> None:
        with connect(statement_timeout="10min") as connection:
            restore_damaged.restore_readable_blocks(connection)
            unmerged = schedule.merge_commits(connection, force=options["all"])
            merged = schedule.merge_days(connection, force=options["all"], budget=float("inf"))
        self.stdout.write(f"merged {unmerged:,} points of unmerged commits and {merged:,} points of merged blocks")
