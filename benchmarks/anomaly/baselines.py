"""Simple detectors to compare with: one score per row, learned from the rows before."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from alerts.detector.state import Floats, Ints

ROBUST_ROWS = 101
GAUSSIAN_ROWS = 500
MIN_ROWS = 20  # before the first score
EWMA_WEIGHT = 0.05
SEASON_WEIGHT = 0.3  # of the newest day in the mean of a half hour
SPREAD_WEIGHT = 0.002  # of the newest row in the spread of seasonal residuals
HALF_HOUR = 1_800_000_000  # µs
LEAST = 1e-9  # spread, as a fraction of the value


def robust_z(times: Ints, values: Floats) -> Floats:
    """Distance from the median of the rows before, in median absolute deviations."""
    scores = np.zeros(len(values))
    if len(values) <= MIN_ROWS:
        return scores
    padded = np.concatenate([np.full(ROBUST_ROWS, values[0]), values])
    windows = sliding_window_view(padded, ROBUST_ROWS)[: len(values)]
    for first in range(MIN_ROWS, len(values), 4_096):
        part = slice(first, min(first + 4_096, len(values)))
        middle = np.median(windows[part], axis=1)
        spread = 1.4826 * np.median(np.abs(windows[part] - middle[:, None]), axis=1)
        scores[part] = np.abs(values[part] - middle) / (spread + LEAST * np.abs(middle) + 1e-12)
    return scores


def seasonal_z(times: Ints, values: Floats) -> Floats:
    """Distance from the mean of this half hour of the days before, in standard deviations of such distances."""
    scores, means, counts = np.zeros(len(values)), [0.0] * 48, [0] * 48
    square, bins = 0.0, times // HALF_HOUR
    first = np.flatnonzero(np.append(True, bins[1:] != bins[:-1])).tolist()
    rows = 0
    for begin, end in zip(first, [*first[1:], len(values)], strict=True):
        place = int(bins[begin] % 48)
        if counts[place]:
            for row in range(begin, end):
                residual = abs(float(values[row]) - means[place])
                spread = math.sqrt(square)
                if rows >= MIN_ROWS:
                    scores[row] = residual / (spread + LEAST * abs(means[place]) + 1e-12)
                    residual = min(residual, 4 * spread) if spread else residual
                weight = max(SPREAD_WEIGHT, 1 / (rows + 1))
                square += weight * (residual * residual - square)
                rows += 1
        weight = max(SEASON_WEIGHT, 1 / (counts[place] + 1))
        means[place] += weight * (float(values[begin:end].mean()) - means[place])
        counts[place] += 1
    return scores


def windowed_gaussian(times: Ints, values: Floats) -> Floats:
    """Distance from the mean of the rows before, in standard deviations."""
    centred = values - np.median(values[:MIN_ROWS])
    row = np.arange(len(values))
    first = np.maximum(row - GAUSSIAN_ROWS, 0)
    number = np.maximum(row - first, 1)
    sums, squares = (np.concatenate([[0.0], np.cumsum(centred**power)]) for power in (1, 2))
    mean = (sums[row] - sums[first]) / number
    spread = np.sqrt(np.maximum((squares[row] - squares[first]) / number - mean**2, 0))
    scores = np.abs(centred - mean) / (spread + LEAST * np.abs(values) + 1e-12)
    return np.where(row >= MIN_ROWS, scores, 0.0)


def ewma(times: Ints, values: Floats) -> Floats:
    """Distance from the exponentially weighted mean, in standard deviations weighted in the same way."""
    scores, mean, variance = np.zeros(len(values)), float(values[0]), 0.0
    for row, value in enumerate(values.tolist()):
        distance = value - mean
        if row >= MIN_ROWS:
            scores[row] = abs(distance) / (math.sqrt(variance) + LEAST * abs(mean) + 1e-12)
        mean += EWMA_WEIGHT * distance
        variance = (1 - EWMA_WEIGHT) * (variance + EWMA_WEIGHT * distance * distance)
    return scores


BASELINES = {
    "robust z": robust_z,
    "seasonal z": seasonal_z,
    "windowed Gaussian": windowed_gaussian,
    "EWMA": ewma,
}
