"""Format times as RFC 3339, many at once, as JSON responses show them. Pure: numpy alone."""

import numpy as np
from numpy.typing import NDArray

from metrics.storage.format.codec import Ints

_TWO_DIGITS = np.frombuffer(b"".join(b"%02d" % number for number in range(100)), np.uint8).reshape(100, 2)
_SECONDS_TEMPLATE = np.frombuffer(b"0000-00-00T00:00:00Z", np.uint8)
_MICROSECONDS_TEMPLATE = np.frombuffer(b"0000-00-00T00:00:00.000000Z", np.uint8)


def format_times(times: Ints) -> list[bytes]:
    """Return times (µs since 1970, UTC) as texts; whole seconds without a fraction."""
    seconds, fractions = np.divmod(times, 1_000_000)
    whole = fractions == 0
    if whole.all():
        return _format(seconds, None)
    if not whole.any():
        return _format(seconds, fractions)
    mixed = np.empty(len(times), object)
    mixed[whole] = _format(seconds[whole], None)
    mixed[~whole] = _format(seconds[~whole], fractions[~whole])
    texts: list[bytes] = mixed.tolist()
    return texts


def _format(seconds: Ints, fractions: Ints | None) -> list[bytes]:
    template = _SECONDS_TEMPLATE if fractions is None else _MICROSECONDS_TEMPLATE
    characters: NDArray[np.uint8] = np.tile(template, (len(seconds), 1))
    days, rest = np.divmod(seconds, 86_400)
    distinct_days, positions = np.unique(days, return_inverse=True)
    dates = np.datetime_as_string(distinct_days.astype("datetime64[D]")).astype("S10").view(np.uint8).reshape(-1, 10)
    characters[:, :10] = dates[positions]
    minutes, second = np.divmod(rest, 60)
    hour, minute = np.divmod(minutes, 60)
    columns = [(11, hour), (14, minute), (17, second)]
    if fractions is not None:
        upper, micro = np.divmod(fractions, 100)
        columns += [(24, micro), (22, upper % 100), (20, upper // 100)]
    for column, numbers in columns:
        characters[:, column : column + 2] = _TWO_DIGITS[numbers]
    texts: list[bytes] = characters.view(f"S{len(template)}").ravel().tolist()
    return texts
