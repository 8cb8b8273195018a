from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from metrics.statistics import request_history
from metrics.storage.connection import connect
from metrics.storage.merge.apply_retention_policy import regroup_rows
from metrics.storage.merge.retention import ExpiredRows, delete_expired, find_expired

_UNITS = {"metrics_block": "points", "metrics_rollup": "rollup intervals"}


class Command(BaseCommand):
    help = "Delete expired rows, as a worker does every few minutes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only print what would be deleted")

    def handle(self, *args: Any, **options: Any) -> None:
        with connect(statement_timeout="10min") as connection:
            if not options["dry_run"]:
                regroup_rows(connection, budget=float("inf"))
            expired = find_expired(connection)
            for rows in expired:
                self.stdout.write(_line(rows))
            if options["dry_run"]:
                self.stdout.write(f"{sum(rows.size for rows in expired):,} bytes would be deleted")
            else:
                request_history.delete_old_minutes(connection)
                self.stdout.write(f"{delete_expired(connection):,} rows of points deleted")


def _line(rows: ExpiredRows) -> str:
    content = f"{rows.counted:,} {_UNITS[rows.table]} of {_date(rows.first_day)} to {_date(rows.last_day)}"
    return f"{content}, kept {rows.kept_days} days: {rows.rows:,} rows, {rows.size:,} bytes"


def _date(day: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y-%m-%d}"
