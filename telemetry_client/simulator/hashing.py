"""Random numbers by position instead of in sequence: number `i` of a key is computed without those before it."""

import hashlib

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_FIELD_MEAN = 65_535 / 2
# The sum of four uniform fields of 16 bits is nearly normal; this scale gives it a standard deviation of 1.
_NORMAL_SCALE = 1 / np.sqrt(4 * (2.0**32 - 1) / 12)


def derive_key(*parts: object) -> int:
    """Return the key of a stream of random numbers, such as (seed, device, metric)."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def mix(key: int, positions: Ints) -> NDArray[np.uint64]:
    """Return 64 random bits for each position (splitmix64)."""
    bits = positions.astype(np.uint64)
    bits *= _GOLDEN
    bits ^= np.uint64(key)
    bits ^= bits >> _SHIFTS[0]
    bits *= _MIX_1
    bits ^= bits >> _SHIFTS[1]
    bits *= _MIX_2
    bits ^= bits >> _SHIFTS[2]
    return bits


def uniform(key: int, positions: Ints) -> Floats:
    """Return a number from 0 to before 1 for each position."""
    return (mix(key, positions) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(key: int, positions: Ints) -> Floats:
    """Return a number with mean 0 and standard deviation 1 for each position, at most 3.5 from 0."""
    fields = mix(key, positions).view(np.uint16).reshape(-1, 4)
    # np.sum along an axis of four is slower than three additions
    total = fields[:, 0].astype(np.float64)
    total += fields[:, 1]
    total += fields[:, 2]
    total += fields[:, 3]
    total -= 4 * _FIELD_MEAN
    total *= _NORMAL_SCALE
    return total


def uniform_at(key: int, position: int) -> float:
    """Return the number of one position, from 0 to before 1."""
    return float(uniform(key, np.array([position], np.int64))[0])


def choose(key: int, position: int, count: int) -> int:
    """Return one of `count` indices."""
    return min(int(uniform_at(key, position) * count), count - 1)


def smooth_noise(key: int, times: Ints, period: int) -> Floats:
    """Return noise with autocorrelation: about 1 at the same time, 0 beyond two periods (ms).

    Random knots, one per period, are joined by smooth curves; the standard deviation is about 0.85. Times ascend.
    """
    if not len(times):
        return np.empty(0)
    first = int(times[0]) // period
    knots = normal(key, np.arange(first, int(times[-1]) // period + 2, dtype=np.int64))
    position = (times - first * period) * (1 / period)
    index = position.astype(np.int64)
    part = position - index
    part *= part * (3 - 2 * part)
    low = knots[index]
    low += (knots[index + 1] - low) * part
    return low
