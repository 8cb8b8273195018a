"""Errors of the storage engine. They know nothing of HTTP; `metrics.error_responses` maps them to responses.

StorageError
├── StorageUnavailable  PostgreSQL cannot be reached or does not answer in time
│   └── DiskFull        the disk of the database is full
├── WriterOverloaded    too many points wait to be committed
├── DeviceDeleted       a device was deleted while its points were being written; sent again they belong to a new device
├── ShardCountMismatch  TELEMETRY_SHARDS differs from the shards of the database
└── ReadTooLarge        a read would touch more blocks than the limit
"""


class StorageError(Exception):
    """Base of the storage engine's errors."""


class StorageUnavailable(StorageError):
    pass


class DiskFull(StorageUnavailable):
    pass


class WriterOverloaded(StorageError):
    pass


class DeviceDeleted(StorageError):
    pass


class ShardCountMismatch(StorageError):
    """The message is one line."""


class ReadTooLarge(StorageError):
    pass
