"""Points of a day three days ago."""

from datetime import UTC, datetime, timedelta

from metrics.storage.connection import connect
from metrics.storage.merge import schedule
from tests.conftest import point

START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)
START_TEXT, END_TEXT = START.isoformat(), (START + timedelta(days=1)).isoformat()
RANGE = {"start_time": START_TEXT, "end_time": END_TEXT}


def point_at(seconds, metric="temperature", value=20.0, **fields):
    return point(metric, value) | {"timestamp": (START + timedelta(seconds=seconds)).isoformat()} | fields


def send_points(caller, points, device="device_001"):
    response = caller.post(f"devices/{device}/telemetry/batch", {"data_points": points})
    assert response.status == 200, response.raw
    assert response.json["ingested_count"] == len(points), response.raw


def merge_all():
    with connect() as connection:
        schedule.merge_commits(connection, force=True)
        schedule.merge_days(connection, force=True)


def time_after(**distance):
    return (START + timedelta(**distance)).isoformat()
