"""Times as RFC 3339, many at once: the same texts that JSON answers have. Pure: numpy alone."""

import numpy as np
from numpy.typing import NDArray

from metrics.storage.format.codec import Ints

_DAY = 86_400_000_000  # µs
_PAIRS = np.frombuffer(b"".join(b"%02d" % number for number in range(100)), np.uint8).reshape(100, 2)
_WHOLE = np.frombuffer(b"0000-00-00T00:00:00Z", np.uint8)
_BROKEN = np.frombuffer(b"0000-00-00T00:00:00.000000Z", np.uint8)


def stamps(times: Ints) -> list[bytes]:
    """Times (µs since 1970, UTC) as texts; without a fraction where there is none."""
    seconds, fractions = np.divmod(times, 1_000_000)
    whole = fractions == 0
    if whole.all():
        return _texts(seconds, None)
    if not whole.any():
        return _texts(seconds, fractions)
    found = np.empty(len(times), object)
    found[whole] = _texts(seconds[whole], None)
    found[~whole] = _texts(seconds[~whole], fractions[~whole])
    texts: list[bytes] = found.tolist()
    return texts


def _texts(seconds: Ints, fractions: Ints | None) -> list[bytes]:
    form = _WHOLE if fractions is None else _BROKEN
    written: NDArray[np.uint8] = np.tile(form, (len(seconds), 1))
    days, rest = np.divmod(seconds, 86_400)
    known, which = np.unique(days, return_inverse=True)
    dates = np.datetime_as_string(known.astype("datetime64[D]")).astype("S10").view(np.uint8).reshape(-1, 10)
    written[:, :10] = dates[which]
    minutes, second = np.divmod(rest, 60)
    hour, minute = np.divmod(minutes, 60)
    pairs = [(11, hour), (14, minute), (17, second)]
    if fractions is not None:
        upper, micro = np.divmod(fractions, 100)
        pairs += [(24, micro), (22, upper % 100), (20, upper // 100)]
    for at, numbers in pairs:
        written[:, at : at + 2] = _PAIRS[numbers]
    texts: list[bytes] = written.view(f"S{len(form)}").ravel().tolist()
    return texts
