"""Metric definitions for a recording: created if they are missing, with a retention that covers the oldest row."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from django.db import transaction

from ingest.recordings.cell_values import are_numbers, infer_exported_kind, infer_kind
from ingest.recordings.errors import UnreadableRecording
from ingest.recordings.number_format import looks_like_written_number
from ingest.recordings.row_reader import RecordingRows, read_unit
from ingest.recordings.timestamps import DAY
from ingest.wire.validate import MAX_UNIT_LENGTH
from metrics.models import LONGEST_RETENTION_DAYS, DataType, MetricDefinition
from metrics.storage import series_registry
from metrics.storage.format.codec import Kind
from metrics.storage.merge.retention_policies import DEFAULT_RETENTION_DAYS

HEADROOM_DAYS = 30  # without it retention would delete the oldest points the next day
SAMPLE_SIZE = 5000  # cells from which the kind of a column is inferred


def refuse_written_numbers(name: str, cells: Sequence[str]) -> None:
    """Raise UnreadableRecording if most cells are numbers in a form that was not read as numbers.

    A metric of texts would later reject the numbers that devices send.
    """
    filled = [cell for cell in cells if cell.strip()]
    written = [cell for cell in filled if looks_like_written_number(cell)]
    if 2 * len(written) > len(filled):
        raise UnreadableRecording(
            f"metric {name}: values such as {written[0]!r} are numbers with commas or units that differ, and would be"
            " stored as texts: --decimal , or --decimal . states what the comma is. To store texts, define the metric"
            " as string first"
        )


class RecordingDefinitions:
    """The kinds and retentions of the metrics of a recording. `notes` describes the changes, by metric.

    A metric of an export may have values of several kinds. If this load has defined it, its kind becomes JSON then.
    """

    def __init__(self, is_export: bool = False) -> None:
        self.notes: dict[str, str] = {}
        self._is_export = is_export
        self._created: set[str] = set()
        self._kinds: dict[str, Kind] = {}
        self._days: dict[str, int] = {}

    def ensure(self, rows: RecordingRows) -> Mapping[str, Kind]:
        """Create or extend the definitions that these rows need; return the kinds of their metrics."""
        if not len(rows):
            return {}
        names = {rows.metrics[0]} if rows.metrics[0] == rows.metrics[-1] else set()
        if not names or rows.metrics.count(rows.metrics[0]) != len(rows):
            names = set(rows.metrics)
        needed = self._days_since(int(rows.times.min()))
        has_widened = self._is_export and self._widen_kinds(rows, names)
        is_known = names <= self._kinds.keys() and needed <= min(self._days[name] for name in names)
        if is_known and not has_widened:
            return {name: self._kinds[name] for name in names}
        positions_of_metric: dict[str, list[int]] = {}
        for position, name in enumerate(rows.metrics):
            positions_of_metric.setdefault(name, []).append(position)
        for name, positions in positions_of_metric.items():
            oldest = int(rows.times[np.array(positions)].min())
            self._ensure_metric(name, rows, positions, self._days_since(oldest))
        series_registry.refresh_registry()  # the pipeline needs the definitions at once
        return {name: self._kinds[name] for name in names}

    @staticmethod
    def _days_since(oldest: int) -> int:
        age = time.time_ns() // 1000 - oldest
        return max(1, min(LONGEST_RETENTION_DAYS, -(-age // DAY)))

    @transaction.atomic
    def _ensure_metric(self, name: str, rows: RecordingRows, positions: list[int], needed: int) -> None:
        """Create or extend one definition. Another process can load the same metric at the same time."""
        days = min(LONGEST_RETENTION_DAYS, max(DEFAULT_RETENTION_DAYS, needed + max(HEADROOM_DAYS, needed // 10)))
        definitions = MetricDefinition.objects.select_for_update()
        definition = definitions.filter(name=name).first()
        if definition is None:
            fields = self._inferred_fields(name, rows, positions) | {"retention_days": days, "created_by": "load"}
            definition, created = definitions.get_or_create(name=name, defaults=fields)
            if created:
                self._created.add(name)
                self.notes[name] = f"metric {name} is defined: {definition.data_type}, retention {days} days"
        self._kinds[name] = series_registry.kind_of_type(name, definition.data_type)
        self._days[name] = definition.retention_days
        if needed <= definition.retention_days:
            return
        before, definition.retention_days = definition.retention_days, days
        definition.save(update_fields=["retention_days", "updated_at"])
        self.notes[name] = f"metric {name}: retention is now {days} days instead of {before}"
        self._days[name] = days

    def _inferred_fields(self, name: str, rows: RecordingRows, positions: list[int]) -> dict[str, str]:
        kind = self._infer_kind(name, rows, positions)
        unit = self._common_unit(rows, positions)
        unit = unit.encode("utf-8", "ignore").decode()  # a row with bytes that are not text is rejected later
        return {"data_type": DataType[kind.name], "unit": unit[:MAX_UNIT_LENGTH]}

    def _infer_kind(self, name: str, rows: RecordingRows, positions: list[int]) -> Kind:
        if self._is_export:
            kind = infer_exported_kind([rows.cells[position] for position in positions])
            return Kind.STRING if kind is None else kind
        cells = [rows.cells[position] for position in positions[:SAMPLE_SIZE]]
        kind = infer_kind(cells)
        if kind is Kind.STRING:
            refuse_written_numbers(name, cells)
        return kind

    def _common_unit(self, rows: RecordingRows, positions: list[int]) -> str:
        """Return the unit of the first row; of an export only if all rows have it, since it counts for all points."""
        cells = rows.contexts[0]
        if not cells or (self._is_export and len({cells[position] for position in positions}) > 1):
            return ""
        return read_unit(cells[positions[0]])

    def _widen_kinds(self, rows: RecordingRows, names: set[str]) -> bool:
        """Make metrics JSON that this load has defined with another kind than that of these rows; return if any."""
        kinds = {name: self._kinds[name] for name in names & self._created if self._kinds[name] is not Kind.JSON}
        if not kinds or (set(kinds.values()) == {Kind.NUMERIC} and are_numbers(rows.cells)):
            return False
        cells: dict[str, set[str]] = {name: set() for name in kinds}
        for name, cell in zip(rows.metrics, rows.cells, strict=True):
            if name in kinds:
                cells[name].add(cell)
        mixed = [name for name, kind in kinds.items() if infer_exported_kind(cells[name]) not in (None, kind)]
        for definition in MetricDefinition.objects.filter(name__in=mixed):
            name, definition.data_type = definition.name, DataType.JSON
            definition.save(update_fields=["data_type", "updated_at"])
            self.notes[name] = f"metric {name} is defined: json, since its values have several kinds"
            self._kinds[name] = Kind.JSON
        return bool(mixed)
