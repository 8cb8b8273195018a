import json
from dataclasses import asdict
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from metrics.storage.connection import Connection, read_connection
from metrics.storage.format.layout import MERGED, UNMERGED
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
_SIZES = "SELECT name, {function}(name::regclass) FROM unnest(%s::text[]) name"
_DISTRIBUTED = "SELECT logicalrelid::regclass::text FROM pg_dist_partition WHERE partmethod = 'h'"
_DAMAGED = """
SELECT shard, level, number, bucket, day, series_from, series_to, seq_from, seq_to, time_from, time_to, points
FROM metrics_damagedblock ORDER BY found_at
"""
EPOCH = date(1970, 1, 1).toordinal()
_POINTS = """
SELECT (SELECT coalesce(sum(points), 0) FROM metrics_block)
     + (SELECT coalesce(sum(y.points), 0) FROM metrics_young y JOIN metrics_merged m ON m.shard = y.shard
        WHERE y.seq > m.seq)
"""


def describe_damage(damaged: dict[str, Any]) -> str:
    """Describe the points of a damaged block."""
    if damaged["bucket"] is None:
        return f"{damaged['points']:,} points"
    location = f"bucket {damaged['bucket']}, day {date.fromordinal(EPOCH + damaged['day'])}"
    return f"{damaged['points']:,} points of series {damaged['series_from']} to {damaged['series_to']}, {location}"


def read_table_sizes(connection: Connection) -> dict[str, int]:
    """Return the bytes of each table, with its indexes and TOAST data, on all nodes if it is distributed."""
    has_citus = connection.execute("SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL").fetchone()
    distributed = {table for (table,) in connection.execute(_DISTRIBUTED)} if has_citus == (True,) else set()
    local = [table for table in TABLES if table not in distributed]
    sizes: dict[str, int] = dict(
        connection.execute(_SIZES.format(function="pg_total_relation_size"), (local,)).fetchall()
    )
    if distributed:  # without Citus this function does not exist
        remote = [table for table in TABLES if table in distributed]
        sizes |= connection.execute(_SIZES.format(function="citus_total_relation_size"), (remote,)).fetchall()
    return {table: int(sizes[table]) for table in TABLES}


class Command(BaseCommand):
    help = "Print how many points are stored, their bytes by table, and the backlog of the workers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        with read_connection() as connection:
            row = connection.execute(_POINTS).fetchone()
            points = int(row[0]) if row else 0
            tables = read_table_sizes(connection)
            levels = connection.execute(
                "SELECT level, count(*), sum(points) FROM metrics_block GROUP BY level ORDER BY level"
            )
            blocks = [{"level": level, "rows": rows, "points": int(count)} for level, rows, count in levels]
            rows_found = connection.execute(_DAMAGED)
            names = [column.name for column in rows_found.description or ()]
            damaged = [dict(zip(names, row, strict=True)) for row in rows_found]
            backlog = read_worker_backlog(connection)
        total_bytes = sum(tables.values())
        report = {
            "points": points,
            "bytes": total_bytes,
            "bytes_per_point": round(total_bytes / points, 3) if points else None,
            "tables": tables,
            "blocks": blocks,
            "damaged": damaged,
            "backlog": asdict(backlog),
        }
        if options["json"]:
            self.stdout.write(json.dumps(report))
            return
        self.stdout.write(
            f"{points:,} points in {total_bytes:,} bytes, {report['bytes_per_point'] or '-'} bytes per point"
        )
        for name, size in tables.items():
            self.stdout.write(f"  {name:24}{size:>16,}")
        for block in blocks:
            self.stdout.write(f"  level {block['level']:<18}{block['rows']:>8,} rows {block['points']:>16,} points")
        oldest = f"{backlog.commits:,} commits, {backlog.points:,} points, the oldest {backlog.oldest_seconds:.0f} s"
        self.stdout.write(f"  to merge: {oldest}")
        self.stdout.write(f"  days to merge: {backlog.days_to_make:,}; rows to delete: {backlog.rows_to_drop:,}")
        if backlog.policies_to_apply:
            self.stdout.write(f"  policies to apply: {', '.join(backlog.policies_to_apply)}")
        for block in damaged:
            name = damaged_blocks.block_name(MERGED if block["level"] else UNMERGED, (block["shard"], block["number"]))
            self.stdout.write(f"  damaged: {name}, {describe_damage(block)}")
