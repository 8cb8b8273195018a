from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from metrics.storage.connection import connect
from metrics.storage.merge import restore_damaged, schedule


class Command(BaseCommand):
    help = "Merge blocks that may be merged now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="merge everything, and make day blocks of today too")

    def handle(self, *args: Any, **options: Any) -> None:
        with connect(statement_timeout="10min") as connection:
            restore_damaged.restore_readable_blocks(connection)
            young = schedule.merge_commits(connection, force=options["all"])
            older = schedule.merge_days(connection, force=options["all"], budget=float("inf"))
        self.stdout.write(f"merged {young:,} young points and {older:,} older ones")
