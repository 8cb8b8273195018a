"""A probe of the database's disk: a query that sorts more than fits in its memory, into a temporary file.

Unlike a write it needs no table and changes nothing. It takes some milliseconds.
"""

from metrics.storage.connection import monitoring_connection
from metrics.storage.disk_space import is_disk_full, record_probe
from metrics.storage.errors import StorageUnavailable

_SORT = "SELECT count(*) FROM (SELECT n FROM generate_series(1, 50000) AS n ORDER BY n DESC OFFSET 0) AS sorted"


def probe_disk() -> bool:
    """Return whether the database's disk has space, and record it for `is_disk_full`."""
    try:
        with monitoring_connection() as connection, connection.transaction():
            connection.execute("SET LOCAL work_mem = '64kB'")
            connection.execute(_SORT)
    except StorageUnavailable:
        return not is_disk_full()
    record_probe()
    return True
