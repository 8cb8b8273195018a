from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from metrics.statistics import request_history
from metrics.storage.connection import connect
from metrics.storage.merge.apply_retention_policy import regroup_rows
from metrics.storage.merge.retention import ExpiredRows, delete_expired, find_expired

_WHAT = {"metrics_block": "points", "metrics_rollup": "rollup intervals"}


class Command(BaseCommand):
    help = "Let go of what is past its retention, as a worker does every few minutes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would go")

    def handle(self, *args: Any, **options: Any) -> None:
        with connect(statement_timeout="10min") as connection:
            if not options["dry_run"]:
                regroup_rows(connection, budget=float("inf"))
            found = find_expired(connection)
            for one in found:
                self.stdout.write(_line(one))
            if options["dry_run"]:
                self.stdout.write(f"{sum(one.size for one in found):,} bytes would go")
            else:
                request_history.delete_old_minutes(connection)
                self.stdout.write(f"{delete_expired(connection):,} rows of points are gone")


def _line(one: ExpiredRows) -> str:
    what = f"{one.counted:,} {_WHAT[one.table]} of {_date(one.first_day)} to {_date(one.last_day)}"
    return f"{what}, kept {one.kept_days} days: {one.rows:,} rows, {one.size:,} bytes"


def _date(day: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y-%m-%d}"
