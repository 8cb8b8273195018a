"""`manage.py distribute`: distribute the storage tables over the workers of a PostgreSQL with Citus. Repeatable."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from metrics.checks import DISTRIBUTED_MODELS
from metrics.storage import shards
from metrics.storage.connection import Connection, connect
from metrics.storage.errors import ShardCountMismatch

REFUSED = 2  # exit code if a precondition is missing
_HEAD = DISTRIBUTED_MODELS[0]._meta.db_table  # all other tables are colocated with it


class Command(BaseCommand):
    help = "Distribute the storage tables over the workers of a PostgreSQL with Citus. May be run again."

    def handle(self, *args: Any, **options: Any) -> None:
        if shards.count() == 1:
            raise _refused(
                "nothing can be distributed: TELEMETRY_SHARDS is 1. Start a new installation with several times as many"
                " shards as planned workers, up to 64, and load the data of this one into it"
            )
        with connect(statement_timeout="0") as connection:
            try:
                shards.verify_shard_count(connection)
            except ShardCountMismatch as error:
                raise _refused(str(error)) from None
            _refuse_without_citus(connection)
            with connection.transaction():
                done = _distribute(connection)
        self.stdout.write(f"distributed {', '.join(done)}" if done else "all tables are distributed already")


def _refused(reason: str) -> CommandError:
    return CommandError(reason, returncode=REFUSED)


def _refuse_without_citus(connection: Connection) -> None:
    if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'citus'").fetchone() is None:
        raise _refused(
            "this database has no Citus: install it on the server, then run CREATE EXTENSION citus in this database"
        )
    # Citus joins local and distributed tables if the coordinator is a node of the cluster.
    if connection.execute("SELECT 1 FROM pg_dist_node WHERE groupid = 0").fetchone() is None:
        raise _refused("the coordinator is not a cluster node: run SELECT citus_set_coordinator_host('its name')")
    if connection.execute("SELECT 1 FROM pg_dist_node WHERE groupid > 0 AND isactive").fetchone() is None:
        raise _refused("the cluster has no worker yet: run SELECT citus_add_node('its name', 5432)")


def _is_distributed(connection: Connection, table: str) -> bool:
    row = connection.execute(
        "SELECT FROM pg_dist_partition WHERE logicalrelid = %s::regclass AND partmethod = 'h'", (table,)
    ).fetchone()
    return row is not None


def _distribute(connection: Connection) -> list[str]:
    tables = [table for model in DISTRIBUTED_MODELS if not _is_distributed(connection, table := model._meta.db_table)]
    for table in tables:
        beside = "none" if table == _HEAD else _HEAD
        connection.execute("SELECT create_distributed_table(%s, 'shard', colocate_with => %s)", (table, beside))
    return tables
