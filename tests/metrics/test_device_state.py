"""The state of a device."""

from datetime import UTC, datetime, timedelta

import pytest

from metrics.devices.device_state import LATE, NEVER_SEEN, OFFLINE, ONLINE, StateLimits

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expected_interval", "seconds_since_seen", "state"),
    [
        (10, 0, ONLINE),
        (10, 30, ONLINE),
        (10, 31, LATE),
        (10, 100, LATE),
        (10, 101, OFFLINE),
        (None, 300, ONLINE),
        (None, 301, OFFLINE),  # never late without an expected interval
        (10, -200, ONLINE),  # the clock of the device is ahead
    ],
)
def test_state_depends_on_missed_intervals(expected_interval, seconds_since_seen, state):
    assert StateLimits.of(expected_interval).state(NOW - timedelta(seconds=seconds_since_seen), NOW) is state


def test_device_without_data_is_never_seen():
    assert StateLimits.of(10).state(None, NOW) is NEVER_SEEN
