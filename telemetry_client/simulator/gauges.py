"""Values of gauges: drivers and noise, and the faults of their sensors."""

import numpy as np

from telemetry_client.simulator.device_types import Metric
from telemetry_client.simulator.drivers import Drivers
from telemetry_client.simulator.hashing import Floats, Ints, derive_key, normal, smooth_noise, uniform_at
from telemetry_client.simulator.schedule import Disturbance, Fault


class Gauge:
    """A gauge of one device."""

    def __init__(self, metric: Metric, key: int) -> None:
        self.metric = metric
        self._slow_key, self._white_key = derive_key(key, "slow"), derive_key(key, "white")
        self._fault_key = derive_key(key, "fault")
        self._base = metric.base * (1 + metric.spread * (2 * uniform_at(key, 0) - 1))
        # How far values usually are from their mean: the unit of the size of faults.
        self._deviation = metric.slow + metric.white + 0.35 * sum(map(abs, metric.weights.values()))

    def measure(self, times: Ints, drivers: Drivers) -> Floats:
        """Return the values of a sensor without a fault, not yet within its range."""
        metric = self.metric
        values = np.full(len(times), self._base)
        for name, weight in metric.weights.items():
            values += weight * drivers[name]
        if metric.slow:
            values += metric.slow * smooth_noise(self._slow_key, times, metric.slow_period)
        if metric.white:
            values += metric.white * normal(self._white_key, times)
        return values

    def disturb(self, values: Floats, times: Ints, fault: Fault) -> Floats:
        """Return the values of a sensor during a fault that adds to them."""
        strength = fault.sign * self._deviation
        if fault.kind is Disturbance.NOISE:
            return values + (2 + 2 * fault.size) * self._deviation * normal(self._fault_key, times)
        if fault.kind is Disturbance.DRIFT:
            part = (times - fault.start) / (fault.end - fault.start)
            return values + (2 + 4 * fault.size) * strength * part
        if fault.kind is Disturbance.LEVEL_SHIFT:
            return values + (2 + 3 * fault.size) * strength
        return values + (8 + 8 * fault.size) * strength

    def finish(self, values: Floats) -> Floats:
        """Return the values within the range of the sensor, rounded to its resolution."""
        if self.metric.low is not None or self.metric.high is not None:
            np.clip(values, self.metric.low, self.metric.high, out=values)
        values = np.round(values, self.metric.decimals, out=values)
        values += 0.0  # not -0.0
        return values
