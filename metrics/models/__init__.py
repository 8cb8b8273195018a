"""Models of devices, metric definitions and series, and of the storage tables."""

from metrics.models.audit import Audited, AuditEntry, AuditHead
from metrics.models.definitions import LONGEST_RETENTION_DAYS, DataType, MetricDefinition, MetricType, new_metric_id
from metrics.models.deletions import Deletion, DeletionStatus, new_deletion_id
from metrics.models.devices import Device, DeviceGroup, Lane, Series
from metrics.models.events import Event, EventCursor, SilentDevice
from metrics.models.exports import ExportJob, ExportStatus, new_export_id
from metrics.models.idempotency import IdempotentAnswer
from metrics.models.revision import Announced, Revision
from metrics.models.statistics import Activity, Count, Heartbeat
from metrics.models.storage import (
    Block,
    DamagedBlock,
    GroupedBy,
    Head,
    IngestedBatch,
    Journal,
    JournalPack,
    Latest,
    Merged,
    Rollup,
    Young,
)
from rest.names import NAME_LENGTH

__all__ = [
    "LONGEST_RETENTION_DAYS",
    "NAME_LENGTH",
    "Activity",
    "Announced",
    "AuditEntry",
    "AuditHead",
    "Audited",
    "Block",
    "Count",
    "DamagedBlock",
    "DataType",
    "Deletion",
    "DeletionStatus",
    "Device",
    "DeviceGroup",
    "Event",
    "EventCursor",
    "ExportJob",
    "ExportStatus",
    "GroupedBy",
    "Head",
    "Heartbeat",
    "IdempotentAnswer",
    "IngestedBatch",
    "Journal",
    "JournalPack",
    "Lane",
    "Latest",
    "Merged",
    "MetricDefinition",
    "MetricType",
    "Revision",
    "Rollup",
    "Series",
    "SilentDevice",
    "Young",
    "new_deletion_id",
    "new_export_id",
    "new_metric_id",
]
