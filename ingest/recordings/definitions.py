"""Metric definitions that can hold a recording: made where there is none, kept longer where that is needed."""

import time
from collections.abc import Mapping

import numpy as np

from ingest.recordings.rows import Rows
from ingest.recordings.timestamps import DAY
from ingest.recordings.values import kind_of
from metrics.models import LONGEST_RETENTION_DAYS, DataType, MetricDefinition
from metrics.storage import series_registry
from metrics.storage.format.codec import Kind
from metrics.storage.merge.retention_policies import DEFAULT_RETENTION_DAYS

HEADROOM_DAYS = 30  # or the oldest points would go tomorrow
SAMPLE = 5000  # cells from which a column's kind is told


class Definitions:
    """What the metrics of a recording hold and how long they are kept. `notes` tells what was changed."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self._kinds: dict[str, Kind] = {}
        self._days: dict[str, int] = {}

    def hold(self, rows: Rows) -> Mapping[str, Kind]:
        """See to it that these rows can be kept, as far as any may be; the kinds of their metrics."""
        if not len(rows):
            return {}
        names = {rows.metrics[0]} if rows.metrics[0] == rows.metrics[-1] else set()
        if not names or rows.metrics.count(rows.metrics[0]) != len(rows):
            names = set(rows.metrics)
        needed = self._days_since(int(rows.times.min()))
        if names <= self._kinds.keys() and needed <= min(self._days[name] for name in names):
            return {name: self._kinds[name] for name in names}
        of_metric: dict[str, list[int]] = {}
        for place, name in enumerate(rows.metrics):
            of_metric.setdefault(name, []).append(place)
        for name, places in of_metric.items():
            oldest = int(rows.times[np.array(places)].min())
            self._hold(name, rows, places, self._days_since(oldest))
        series_registry.refresh_registry()  # the pipeline is to know at once, not within its half second
        return {name: self._kinds[name] for name in names}

    @staticmethod
    def _days_since(oldest: int) -> int:
        age = time.time_ns() // 1000 - oldest
        return max(1, min(LONGEST_RETENTION_DAYS, -(-age // DAY)))

    def _hold(self, name: str, rows: Rows, places: list[int], needed: int) -> None:
        wanted = min(LONGEST_RETENTION_DAYS, max(DEFAULT_RETENTION_DAYS, needed + max(HEADROOM_DAYS, needed // 10)))
        found = MetricDefinition.objects.filter(name=name).first()
        if found is None:
            kind = kind_of([rows.cells[place] for place in places[:SAMPLE]])
            unit = rows.contexts[0][places[0]].strip() if rows.contexts[0] else ""
            MetricDefinition.objects.create(
                name=name, data_type=DataType[kind.name], unit=unit[:50], retention_days=wanted, created_by="load"
            )
            self.notes[name] = f"metric {name} is defined: {kind.name.lower()}, kept for {wanted} days"
            self._kinds[name], self._days[name] = kind, wanted
            return
        self._kinds[name], self._days[name] = (
            series_registry.KIND_OF_TYPE[found.data_type],
            found.retention_days,
        )
        if needed <= found.retention_days:
            return
        before, found.retention_days = found.retention_days, wanted
        found.save(update_fields=["retention_days", "updated_at"])
        self.notes[name] = f"metric {name} is now kept for {wanted} days instead of {before}"
        self._days[name] = wanted
