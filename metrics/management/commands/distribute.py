"""`manage.py distribute`: spreads the storage over the workers of a PostgreSQL with Citus. May be run again."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from metrics.checks import DISTRIBUTED_MODELS
from metrics.models import DamagedBlock, Device, Series
from metrics.storage import shards
from metrics.storage.connection import Connection, connect
from metrics.storage.errors import ShardCountMismatch

REFUSED = 2  # the exit code where something else must be done first
COPIED = (Device, Series, DamagedBlock)  # whole on every worker; a table after those that its keys point at
_HEAD = DISTRIBUTED_MODELS[0]._meta.db_table  # whose shards all others lie beside


class Command(BaseCommand):
    help = "Spread the storage over the workers of a PostgreSQL with Citus. May be run again."

    def handle(self, *args: Any, **options: Any) -> None:
        if shards.count() == 1:
            raise _refused(
                "there is nothing to spread: TELEMETRY_SHARDS is 1. Begin an installation with several times as many"
                " shards as there will be workers, up to 64, and load what the old one holds into it"
            )
        with connect(statement_timeout="0") as connection:
            try:
                shards.verify_shard_count(connection)
            except ShardCountMismatch as error:
                raise _refused(str(error)) from None
            _refuse_without_citus(connection)
            with connection.transaction():
                # What is copied to all workers takes the same connections as what lies on one.
                connection.execute("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")
                done = [*_copy(connection), *_spread(connection)]
        self.stdout.write(f"spread or copied {', '.join(done)}" if done else "everything is spread already")


def _refused(why: str) -> CommandError:
    return CommandError(why, returncode=REFUSED)


def _refuse_without_citus(connection: Connection) -> None:
    if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'citus'").fetchone() is None:
        raise _refused(
            "this database has no Citus: install it on the server, then run CREATE EXTENSION citus in this database"
        )
    # Other tables keep foreign keys to what is copied, which Citus allows where the coordinator is a node itself.
    if connection.execute("SELECT 1 FROM pg_dist_node WHERE groupid = 0").fetchone() is None:
        raise _refused("the coordinator is no node of the cluster: run SELECT citus_set_coordinator_host('its name')")
    if connection.execute("SELECT 1 FROM pg_dist_node WHERE groupid > 0 AND isactive").fetchone() is None:
        raise _refused("the cluster has no worker yet: run SELECT citus_add_node('its name', 5432)")


def _known(connection: Connection, table: str) -> bool:
    """Whether Citus has the table already, distributed or copied; a local one that keys point from is not that."""
    row = connection.execute(
        "SELECT partmethod = 'h' OR repmodel = 't' FROM pg_dist_partition WHERE logicalrelid = %s::regclass", (table,)
    ).fetchone()
    return bool(row and row[0])


def _copy(connection: Connection) -> list[str]:
    tables = [table for model in COPIED if not _known(connection, table := model._meta.db_table)]
    for table in tables:
        connection.execute("SELECT create_reference_table(%s)", (table,))
    return tables


def _spread(connection: Connection) -> list[str]:
    tables = [table for model in DISTRIBUTED_MODELS if not _known(connection, table := model._meta.db_table)]
    for table in tables:
        beside = "none" if table == _HEAD else _HEAD
        connection.execute("SELECT create_distributed_table(%s, 'shard', colocate_with => %s)", (table, beside))
    return tables
