import json
from dataclasses import asdict
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from metrics.storage.connection import read_connection
from metrics.storage.merge import damaged_blocks
from metrics.storage.read.merge_backlog import read_worker_backlog

TABLES = (
    "metrics_young",
    "metrics_block",
    "metrics_rollup",
    "metrics_damagedblock",
    "metrics_latest",
    "metrics_count",
    "metrics_journal",
    "metrics_journalpack",
    "metrics_ingestedbatch",
    "metrics_series",
)
_SIZES = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r'"
_DAMAGED = """
SELECT shard, level, number, bucket, day, series_from, series_to, seq_from, seq_to, time_from, time_to, points
FROM metrics_damagedblock ORDER BY found_at
"""
EPOCH = date(1970, 1, 1).toordinal()
_POINTS = """
SELECT (SELECT coalesce(sum(points), 0) FROM metrics_block)
     + (SELECT coalesce(sum(y.points), 0) FROM metrics_young y JOIN metrics_merged m USING (shard) WHERE y.seq > m.seq)
"""


def held(damaged: dict[str, Any]) -> str:
    """What is lost with a block, as far as that is known."""
    if damaged["bucket"] is None:
        return f"{damaged['points']:,} points"
    place = f"bucket {damaged['bucket']}, day {date.fromordinal(EPOCH + damaged['day'])}"
    return f"{damaged['points']:,} points of series {damaged['series_from']} to {damaged['series_to']}, {place}"


class Command(BaseCommand):
    help = "Say how many points are stored, in how many bytes, by table, and what the workers have still to do."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        with read_connection() as connection:
            row = connection.execute(_POINTS).fetchone()
            points = int(row[0]) if row else 0
            tables = {name: int(size) for name, size in connection.execute(_SIZES, (list(TABLES),))}
            levels = connection.execute(
                "SELECT level, count(*), sum(points) FROM metrics_block GROUP BY level ORDER BY level"
            )
            blocks = [{"level": level, "rows": rows, "points": int(count)} for level, rows, count in levels]
            rows_found = connection.execute(_DAMAGED)
            names = [column.name for column in rows_found.description or ()]
            damaged = [dict(zip(names, row, strict=True)) for row in rows_found]
            waiting = read_worker_backlog(connection)
        total = sum(tables.values())
        found = {
            "points": points,
            "bytes": total,
            "bytes_per_point": round(total / points, 3) if points else None,
            "tables": tables,
            "blocks": blocks,
            "damaged": damaged,
            "backlog": asdict(waiting),
        }
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        self.stdout.write(f"{points:,} points in {total:,} bytes, {found['bytes_per_point'] or '-'} bytes a point")
        for name, size in tables.items():
            self.stdout.write(f"  {name:24}{size:>16,}")
        for block in blocks:
            self.stdout.write(f"  level {block['level']:<18}{block['rows']:>8,} rows {block['points']:>16,} points")
        oldest = f"{waiting.commits:,} commits, {waiting.points:,} points, the oldest {waiting.oldest_seconds:.0f} s"
        self.stdout.write(f"  to merge: {oldest}")
        self.stdout.write(f"  days to make: {waiting.unfinished_days:,}; rows to drop: {waiting.rows_to_drop:,}")
        if waiting.policies_to_apply:
            self.stdout.write(f"  policies to apply: {', '.join(waiting.policies_to_apply)}")
        for one in damaged:
            name = damaged_blocks.block_name(min(one["level"], 1), (one["shard"], one["number"]))
            self.stdout.write(f"  damaged: {name}, {held(one)}")
