"""`python -m tests.citus [pytest arguments]`: run suites on a PostgreSQL cluster with Citus, if there is one."""

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.citus import cluster
from tests.citus.cluster import CitusCluster
from tests.private_valkey import PrivateValkey

SUITES = (
    "tests/citus",
    "tests/metrics/test_storage.py",
    "tests/metrics/test_shards.py",
    "tests/metrics/test_unmerged.py",
    "tests/metrics/test_rollups.py",
    "tests/metrics/test_retention.py",
    "tests/metrics/test_journal.py",
    "tests/metrics/test_query_api.py",
    "tests/metrics/test_aggregation.py",
    "tests/metrics/test_statistics.py",
    "tests/metrics/test_point_counts.py",
    "tests/metrics/test_histogram.py",
    "tests/alerts/test_evaluation.py",
    "tests/alerts/test_absence.py",
    "tests/alerts/test_alerts_api.py",
    "tests/prd",
)
# Limits of response times are for a server with one node.
EVERYTHING_ELSE = ("-k", "not takes_less_than")
SHARDS = 8  # while the tables are distributed; tests use one shard, unless they set another count


class DistributedTables:
    """A pytest plugin that distributes the tables of the test database after its migrations."""

    def pytest_sessionstart(self) -> None:
        from django.db.models.signals import post_migrate

        post_migrate.connect(self._distribute)

    def _distribute(self, sender: Any, **kwargs: Any) -> None:
        if sender.label != "metrics":
            return
        from django.core.management import call_command
        from django.db import connection
        from django.test import override_settings

        from metrics.apps import create_initial_rows

        assert cluster.running is not None
        cluster.running.add_extension(connection.settings_dict["NAME"])
        with override_settings(SHARDS=SHARDS):
            create_initial_rows("default")
            call_command("distribute")
        create_initial_rows("default")


def main(arguments: list[str]) -> int:
    if reason := cluster.missing_reason():
        print(f"skipped: {reason}")
        return 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tc-")))
        valkey = PrivateValkey(folder / "valkey")
        stack.callback(valkey.stop)
        cluster.running = CitusCluster.create(folder)
        stack.callback(cluster.running.stop)
        os.environ["DATABASE_URL"] = cluster.running.coordinator.url("telemetry")
        os.environ["REDIS_URL"] = valkey.url
        has_paths = any(argument.startswith("tests/") for argument in arguments)
        return int(
            pytest.main(
                [*arguments, *(() if has_paths else (*EVERYTHING_ELSE, *SUITES))], plugins=[DistributedTables()]
            )
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
