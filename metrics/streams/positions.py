"""Positions in the stream of commits, by which a client resumes: `epoch.offset`.

The offset has the last commit of each shard, joined by `-`. The epoch identifies the database: it changes when the data
is restored into another cluster and after a failover, when sequence numbers may have been used twice.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import NewType

from psycopg import errors

from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.read.block_cache import CommitCursor
from rest.errors import InvalidField

Epoch = NewType("Epoch", str)

FIELD = "resume_from"
_TEXT = re.compile(r"([0-9a-f]{8})\.(\d{1,18}(?:-\d{1,18})*)")
# The timeline in the name of the present WAL file: that of the last checkpoint changes some time after a failover.
_CLUSTER = "SELECT system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()"
_DATABASE = "SELECT oid, datname FROM pg_database WHERE datname = current_database()"


@dataclass(frozen=True, slots=True)
class Position:
    """The commits that a stream has reached: the last one of each shard, by its number."""

    epoch: Epoch
    offsets: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.epoch}.{'-'.join(map(str, self.offsets))}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read a position that a client sent back. Raises InvalidField."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise InvalidField(FIELD, 'must be the "position" of an earlier frame, such as 1f0c9a7b.1234')
        return cls(Epoch(match[1]), tuple(int(number) for number in match[2].split("-")))

    @classmethod
    def at(cls, epoch: Epoch, cursor: CommitCursor) -> "Position":
        return cls(epoch, tuple(cursor.get(shard, 0) for shard in shards.all_shards()))

    @property
    def cursor(self) -> CommitCursor:
        return dict(enumerate(self.offsets))


def read_epoch(connection: Connection) -> Epoch:
    """Return the epoch of the database."""
    identity = connection.execute(_DATABASE).fetchone()
    try:
        with connection.transaction():
            cluster = connection.execute(_CLUSTER).fetchone()
    except errors.InsufficientPrivilege:  # of some hosted databases
        cluster = None
    return Epoch(hashlib.sha256(repr((identity, cluster)).encode()).hexdigest()[:8])
