"""When keys were last used: noted in memory where they are, and written once a minute for all of them together."""

import logging

from metrics.storage.connection import read_connection
from metrics.storage.errors import StorageError

log = logging.getLogger(__name__)

PERIOD = 60.0  # seconds between two writings
ROWS_AT_ONCE = 10_000

# Whoever writes for the other processes of a minute has written for this one too.
_WRITE = """
UPDATE ingest_apikey SET last_used_at = now() WHERE id = ANY(%s)
AND (last_used_at IS NULL OR last_used_at < now() - make_interval(secs => %s))
"""

_used: set[int] = set()
note = _used.add  # what a request pays


def write() -> int:
    """Write down the keys that were used since the last time; returns how many rows changed."""
    used = _taken()
    written = 0
    try:
        with read_connection() as connection:
            for start in range(0, len(used), ROWS_AT_ONCE):
                written += connection.execute(_WRITE, (used[start : start + ROWS_AT_ONCE], PERIOD / 2)).rowcount
    except StorageError as error:
        log.warning("when keys were last used could not be written: %s", str(error).split("\n")[0])
    return written


def forget() -> None:
    """Forget what was noted: between tests, whose keys may have the same numbers."""
    _used.clear()


def _taken() -> list[int]:
    taken = []
    while True:  # one by one, since requests go on noting meanwhile
        try:
            taken.append(_used.pop())
        except KeyError:
            return sorted(taken)
