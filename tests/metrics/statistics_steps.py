"""The address of a device's statistics, and the merge of all commits, for tests."""

from metrics.storage.connection import connect
from metrics.storage.merge import schedule

DEVICE = "devices/device_001/stats"


def merge_all() -> None:
    with connect() as connection:
        schedule.merge_commits(connection, force=True)
