"""Merges, deletions run to their end, and counts of the points that remain, for tests."""

import numpy as np

from metrics import tasks
from metrics.storage.connection import connect
from metrics.storage.format.codec import decode
from metrics.storage.format.rollup_codec import decode_rollup
from metrics.storage.merge import schedule as merge
from rest.caller import Caller

ADMIN = Caller.internal("test")


def merge_all(now: float | None = None) -> None:
    """Merge everything into day blocks, and delete the commits that are kept for followers."""
    with connect() as connection:
        merge.merge_commits(connection, force=True)
        merge.merge_days(connection, force=True, now=now)


def finish_deletions() -> None:
    """Run all deletions to their end."""
    merge_all()
    while tasks.remove_deleted():
        pass


def count_points_by_table(series: set[int]) -> dict[str, int]:
    """Count the points or rollup intervals of these series by table."""
    counts: dict[str, int] = {}
    with connect() as connection:
        for table in ("metrics_young", "metrics_block", "metrics_latest"):
            for (payload,) in connection.execute(f"SELECT payload FROM {table}", binary=True):
                for part in decode(payload):
                    counts[table] = counts.get(table, 0) + int(np.isin(part.series(), list(series)).sum())
        for resolution, payload in connection.execute("SELECT resolution, payload FROM metrics_rollup", binary=True):
            ids = decode_rollup(payload, resolution * 1_000_000).ids
            counts["metrics_rollup"] = counts.get("metrics_rollup", 0) + int(np.isin(ids, list(series)).sum())
    return {table: count for table, count in counts.items() if count}
