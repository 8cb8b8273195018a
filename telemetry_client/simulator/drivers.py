"""Drivers: causes that several metrics of a device share, such as load, time of day and a running motor.

Each is a function of the true time (ms since 1970) alone, so any range can be computed without the one before.
"""

from collections.abc import Callable

import numpy as np

from telemetry_client.simulator.hashing import Bools, Floats, Ints, derive_key, smooth_noise, uniform, uniform_at

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
YEAR = 365.25 * DAY
MONDAY = 4 * DAY  # 1970-01-05, the first Monday
DEFROST_PERIOD, DEFROST_LENGTH = 6 * HOUR, 30 * MINUTE
COOLING_PERIOD = 20 * MINUTE
RUN_SLOT = 30 * MINUTE
DOOR_SLOT = 10 * MINUTE
HEALTH_SLOT = 15 * MINUTE
EDGE = 30 * MINUTE  # the load changes over this time at the ends of a weekend


class Drivers:
    """The drivers of one device at ascending times. Each is computed once, when a metric needs it."""

    def __init__(self, key: int, times: Ints, longitude: float, weekly: float) -> None:
        self._key, self._times, self._weekly = key, times, weekly
        self._local = times + int(longitude / 360 * DAY)  # solar time
        self._cache: dict[str, Floats] = {}

    def __getitem__(self, name: str) -> Floats:
        if name not in self._cache:
            self._cache[name] = DRIVERS[name](self)
        return self._cache[name]

    def _derived(self, name: str) -> int:
        return derive_key(self._key, name)

    def _hour_of_day(self) -> Floats:
        hour: Floats = (self._local % DAY) / HOUR
        return hour

    def load(self) -> Floats:
        """Return the use of the device: 0 (none) to 1, low at night and at weekends."""
        hour = self._hour_of_day()
        daily = 0.5 - 0.5 * np.cos((hour - 3.5) * (2 * np.pi / 24))
        daily += 0.12 * np.cos((hour - 10) * (4 * np.pi / 24))  # two peaks a day
        in_week = (self._local - MONDAY) % WEEK
        weekend = np.clip((in_week - 5 * DAY) * (1 / EDGE), 0, 1) * np.clip((WEEK - in_week) * (1 / EDGE), 0, 1)
        daily *= 1 - (1 - self._weekly) * weekend
        daily += 0.06 * smooth_noise(self._derived("load"), self._times, HOUR)
        return np.clip(daily, 0, 1)

    def day(self) -> Floats:
        """Return the course of a day: -1 before sunrise, 1 in the afternoon."""
        course: Floats = np.cos((self._hour_of_day() - 15) * (2 * np.pi / 24))
        return course

    def year(self) -> Floats:
        """Return the course of a year: -1 in January, 1 in July."""
        course: Floats = -np.cos((self._times % YEAR) * (2 * np.pi / YEAR) - 0.35)
        return course

    def sun(self) -> Floats:
        """Return the height of the sun, less where there are clouds: 0 to 1."""
        height = -np.cos(self._hour_of_day() * (2 * np.pi / 24)) + 0.25 * self["year"]
        clouds = 0.75 + 0.25 * smooth_noise(self._derived("clouds"), self._times, 40 * MINUTE)
        return np.clip(height, 0, 1) * np.clip(clouds, 0.1, 1)

    def running(self) -> Floats:
        """Return 1 while the motor runs: half hours, more of them at high load."""
        slot = self._times // RUN_SLOT
        return (uniform(self._derived("running"), slot) < 0.25 + 0.7 * self["load"]).astype(np.float64)

    def cooling(self) -> Floats:
        """Return 1 while the compressor runs: a part of each period, not during a defrost."""
        period = self._times // COOLING_PERIOD
        share = 0.45 + 0.2 * uniform(self._derived("cooling"), period)
        part: Floats = (self._times % COOLING_PERIOD) / COOLING_PERIOD
        runs: Bools = (part < share) & (self["defrost"] == 0)
        return runs.astype(np.float64)

    def defrost(self) -> Floats:
        """Return the heat of the defrosts, four a day: 0 to 1."""
        shift = int(uniform_at(self._derived("defrost"), 0) * DEFROST_PERIOD)
        part = ((self._times + shift) % DEFROST_PERIOD) * (1 / DEFROST_LENGTH)
        heat: Floats = np.where(part < 1, np.sin(np.pi * np.minimum(part, 1)), 0.0)
        return heat

    def door(self) -> Floats:
        """Return 1 while the door is open: up to four minutes, in the busy hours."""
        slot = self._times // DOOR_SLOT
        is_used = uniform(self._derived("door"), slot) < 0.5 * self["load"]
        opened = uniform(self._derived("door opened"), slot) * (6 * MINUTE)
        length = MINUTE + uniform(self._derived("door length"), slot) * (3 * MINUTE)
        within = (self._times % DOOR_SLOT) - opened
        return (is_used & (within >= 0) & (within < length)).astype(np.float64)

    def fill(self) -> Floats:
        """Return the growth of a disk that is cleaned every 9 to 15 days: 0 to 1."""
        key = self._derived("fill")
        period = int((9 + 6 * uniform_at(key, 0)) * DAY)
        grown: Floats = ((self._times + int(uniform_at(key, 1) * period)) % period) / period
        return grown

    def healthy(self) -> Floats:
        """Return 0 in the few quarters of an hour in which the health check fails, else 1."""
        return (uniform(self._derived("healthy"), self._times // HEALTH_SLOT) >= 0.003).astype(np.float64)


DRIVERS: dict[str, Callable[[Drivers], Floats]] = {
    "load": Drivers.load,
    "day": Drivers.day,
    "year": Drivers.year,
    "sun": Drivers.sun,
    "running": Drivers.running,
    "cooling": Drivers.cooling,
    "defrost": Drivers.defrost,
    "door": Drivers.door,
    "fill": Drivers.fill,
    "healthy": Drivers.healthy,
}
