"""Sensitivity of notifications: of a rule, and of a series after feedback. Pure.

A point of `gravity` 1 notifies at normal sensitivity. A factor raises what is needed: that of the rule's sensitivity
times the series' adjustment.
"""

from typing import Literal, get_args

import numpy as np

from alerts.detector.state import Bools, Floats, Ints

Sensitivity = Literal["calm", "normal", "keen"]
SENSITIVITIES: tuple[Sensitivity, ...] = get_args(Sensitivity)
FACTORS: dict[Sensitivity, float] = {"calm": 1.5, "normal": 1.0, "keen": 0.7}
STRONGER = 2.0  # times the last mark, or the gravity of the episode before, that is reported again at once
ALIKE = 1.1  # times the gravity of an anomaly: others like it are below
STEP = 1.25  # of an adjustment, per feedback
LEAST_ADJUSTMENT, MOST_ADJUSTMENT = 0.5, 8.0
LEAST_FACTOR = FACTORS["keen"] * LEAST_ADJUSTMENT
MONTH = 30 * 86_400 * 1_000_000  # µs


def notifies(gravity: Floats, gravity_before: Floats, factor: float = 1.0) -> Bools:
    """Return which points notify: the first of an episode, and later ones that are much graver."""
    notified: Bools = (gravity >= factor) & ((gravity_before < factor) | (gravity >= STRONGER * gravity_before))
    return notified


def adjust(adjustment: float, gravity: float, is_anomaly: bool) -> float:
    """Return the adjustment of a series after feedback on a notification of this gravity.

    "Not an anomaly" raises it by a step, and so far that anomalies like this one no longer notify at normal
    sensitivity, but not above MOST_ADJUSTMENT; "anomaly" lowers it by a step.
    """
    changed = adjustment / STEP if is_anomaly else max(adjustment * STEP, gravity * ALIKE)
    return min(max(changed, LEAST_ADJUSTMENT), MOST_ADJUSTMENT)


def expected_per_month(
    times: Ints, gravity: Floats, gravity_before: Floats, adjustment: float = 1.0
) -> dict[Sensitivity, float] | None:
    """Return the notifications per month of a series' history at each sensitivity; None for less than a day."""
    span = int(times[-1] - times[0]) if len(times) else 0
    if span < MONTH // 30:
        return None
    return {
        name: int(np.count_nonzero(notifies(gravity, gravity_before, FACTORS[name] * adjustment))) * MONTH / span
        for name in SENSITIVITIES
    }
