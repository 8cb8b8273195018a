"""Last use of API keys: marked in memory, and written once a minute for all keys together."""

import logging

from metrics.storage.connection import read_connection
from metrics.storage.errors import StorageError

log = logging.getLogger(__name__)

WRITE_PERIOD = 60.0  # seconds
LAST_USED_BATCH = 10_000  # rows of one statement

# Processes write independently: a key that another process wrote in this period is skipped.
_WRITE = """
UPDATE ingest_apikey SET last_used_at = now() WHERE id = ANY(%s)
AND (last_used_at IS NULL OR last_used_at < now() - make_interval(secs => %s))
"""

_used: set[int] = set()
mark_used = _used.add  # called in every request


def write_last_used() -> int:
    """Write the keys used since the last call; return the number of changed rows."""
    used = _take_used()
    written = 0
    try:
        with read_connection() as connection:
            for start in range(0, len(used), LAST_USED_BATCH):
                written += connection.execute(
                    _WRITE, (used[start : start + LAST_USED_BATCH], WRITE_PERIOD / 2)
                ).rowcount
    except StorageError as error:
        log.warning("the last use of keys could not be written: %s", str(error).split("\n")[0])
    return written


def clear() -> None:
    """Clear the marked keys."""
    _used.clear()


def _take_used() -> list[int]:
    used = []
    while True:  # one by one, since requests add keys at the same time
        try:
            used.append(_used.pop())
        except KeyError:
            return sorted(used)
