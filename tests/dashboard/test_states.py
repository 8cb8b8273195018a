from datetime import UTC, datetime, timedelta

import pytest

from dashboard.device_state import LATE, NEVER, OK, SILENT, Patience

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expected_interval", "quiet", "state"),
    [
        (10, 0, OK),
        (10, 30, OK),
        (10, 31, LATE),
        (10, 100, LATE),
        (10, 101, SILENT),
        (None, 300, OK),
        (None, 301, SILENT),  # never late: nobody said how often it sends
        (10, -200, OK),  # its clock is ahead
    ],
)
def test_a_device_is_judged_by_how_many_intervals_it_missed(expected_interval, quiet, state):
    assert Patience.of(expected_interval).state(NOW - timedelta(seconds=quiet), NOW) is state


def test_a_device_that_never_sent_is_never_heard():
    assert Patience.of(10).state(None, NOW) is NEVER
