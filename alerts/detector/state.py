"""The state of a series: one record of fixed size, so that the states of many series are an array."""

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Singles = npt.NDArray[np.float32]
Shorts = npt.NDArray[np.int16]
Table = npt.NDArray[np.void]

VERSION = 4
HEADER = struct.Struct("<HxxI")  # version, CRC-32 of the record

EARLY = 200  # points that set a series' centre and spread; only their changes are scored
RECENT = 49  # points of the short views, including the newest
DAYS = 7  # in the profile of the time of day
HALF_HOURS = 48  # of a day
WEEKS = 3  # in the profile of the hour of the week
HOURS = 168  # of a week
VIEWS = 6  # see features.VIEWS
STATES = 200  # per view
LEVELS = 18  # classes of novelty, see novelty.NOVELTY
PREVIOUS = 6  # values before a point, see changes.py
PEAKS = 6  # largest changes that are remembered


class InvalidState(ValueError):
    """Bytes that are no state of a series, or one of another version."""


def _layout() -> np.dtype[np.void]:
    """Return the record type. The first points share the memory of the states, which are filled after them."""
    fields: list[tuple[str, Any, tuple[int, ...]]] = [
        ("points", np.int64, ()),
        ("count", np.int64, ()),  # points, the early ones included from the first on
        ("began", np.int64, ()),  # time of the first point
        ("last", np.int64, ()),  # time of the last point
        ("peaked", np.int64, (PEAKS,)),  # times of the largest changes
        ("peak_time", np.int64, ()),  # time of the largest change of this episode
        ("marked_at", np.int64, ()),  # time of the last mark
        ("rising", np.int64, ()),  # points since the value last fell
        ("rises", np.int64, ()),  # those of them that were higher than the one before
        ("previous", np.float64, (PREVIOUS,)),  # values, oldest first
        ("change_sum", np.float64, ()),  # of changes, decaying
        ("change_square", np.float64, ()),
        ("change_weight", np.float64, ()),
        ("peaks", np.float64, (PEAKS,)),  # the largest changes, one per episode; 0: none yet
        ("peak", np.float64, ()),  # the largest change of this episode
        ("gravity", np.float64, ()),  # the largest of this episode
        ("mark_strength", np.float64, ()),  # of the last mark
        ("centre", np.float64, ()),
        ("spread", np.float64, ()),
        ("states", np.int16, (VIEWS, 2, STATES)),  # coordinates, in units of 1 / features.UNIT
        ("reached", np.float32, (VIEWS, LEVELS)),  # points at least as novel as a level, decaying
        ("held", np.float32, (VIEWS,)),  # squared surprise, which decays
        ("recent", np.float32, (RECENT,)),  # values on the series' own scale, oldest first
        ("total", np.float32, ()),  # points, decaying as `reached` does
        ("unchanged", np.float32, ()),  # points since the value changed
        ("longest", np.float32, ()),  # of such runs that have ended
        ("peak_points", np.int32, ()),  # points since `peak_time`
        ("mark_points", np.int32, ()),  # points since the last mark
        ("visited", np.uint16, (VIEWS, STATES)),  # `clock` of the last visit of a state; 0: never
        ("clock", np.uint16, ()),
        ("least", np.int16, (VIEWS, 2)),  # of each coordinate, over all points
        ("most", np.int16, (VIEWS, 2)),
        ("day_lows", np.int16, (HALF_HOURS, DAYS, 2)),  # of the value and of its mean over six points
        ("day_highs", np.int16, (HALF_HOURS, DAYS, 2)),
        ("days", np.uint16, (HALF_HOURS, DAYS)),  # since 1970, from 1, of the range in this place; 0: none
        ("week_lows", np.int16, (HOURS, WEEKS, 2)),
        ("week_highs", np.int16, (HOURS, WEEKS, 2)),
        ("weeks", np.uint8, (HOURS, WEEKS)),  # since 1970, modulo 255, from 1; 0: none
        ("weekly", np.float32, ()),  # evidence for the weekly profile, see seasons.py
    ]
    plain = np.dtype([(name, kind, shape) for name, kind, shape in fields])
    offsets = {name: dtype_and_offset[1] for name, dtype_and_offset in (plain.fields or {}).items()}
    return np.dtype(
        {
            "names": [*offsets, "times", "values"],
            "formats": [*(plain[name] for name in offsets), (np.int64, EARLY), (np.float64, EARLY)],
            "offsets": [*offsets.values(), offsets["states"], offsets["states"] + 8 * EARLY],
            "itemsize": plain.itemsize + -plain.itemsize % 8,
        }
    )


RECORD = _layout()


def pack_state(record: np.void) -> bytes:
    """Return a record as bytes for `unpack_state` of the same VERSION."""
    raw = record.tobytes()
    return HEADER.pack(VERSION, zlib.crc32(raw)) + zlib.compress(raw, 1)


def unpack_state(state: bytes) -> np.void:
    """Return the record of `pack_state`. Raises InvalidState for other bytes and other versions."""
    try:
        version, checksum = HEADER.unpack_from(state)
        if version != VERSION:
            raise InvalidState(f"state of version {version}; only version {VERSION} is supported")
        raw = zlib.decompressobj().decompress(state[HEADER.size :], RECORD.itemsize + 1)
    except (struct.error, zlib.error) as failure:
        raise InvalidState(f"invalid state of a series: {failure}") from failure
    if len(raw) != RECORD.itemsize or zlib.crc32(raw) != checksum:
        raise InvalidState("invalid state of a series: wrong checksum or size")
    record: np.void = np.frombuffer(raw, RECORD)[0]
    return record
