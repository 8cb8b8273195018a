"""What is kept of a series: one record of a fixed size, so that many series are columns and a state is its bytes."""

import struct
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Singles = npt.NDArray[np.float32]
Shorts = npt.NDArray[np.int16]
Table = npt.NDArray[np.void]

VERSION: Final = 2
HEADER: Final = struct.Struct("<HxxI")  # version, CRC-32 of the record

EARLY: Final = 200  # points that fix a series' centre and spread; they are kept until then, and never marked
RECENT: Final = 49  # points that the short views look back on, the newest with them
DAYS: Final = 7  # that the band of a time of day looks back on
HALF_HOURS: Final = 48  # of a day
WEEKS: Final = 3  # that the band of an hour of the week looks back on
HOURS: Final = 168  # of a week
VIEWS: Final = 9  # see features.VIEWS
STATES: Final = 200  # remembered in each view
LEVELS: Final = 18  # classes of novelty, see novelty.NOVELTY


class BadState(ValueError):
    """Bytes that are no state of a series, or one of another version."""


def _layout() -> np.dtype[np.void]:
    """The first points are kept where the states will be: no series needs room for both at once."""
    fields: list[tuple[str, Any, tuple[int, ...]]] = [
        ("points", np.int64, ()),
        ("began", np.int64, ()),  # time of the first point
        ("centre", np.float64, ()),
        ("spread", np.float64, ()),
        ("states", np.int16, (VIEWS, 2, STATES)),  # coordinates, in units of 1 / features.UNIT
        ("reached", np.float32, (VIEWS, LEVELS)),  # points at least as novel as a level, slowly forgotten
        ("held", np.float32, (VIEWS,)),  # squared surprise, which decays
        ("recent", np.float32, (RECENT,)),  # values on the series' own scale, oldest first
        ("total", np.float32, ()),  # points, forgotten as `reached` is
        ("unchanged", np.float32, ()),  # points since the value changed
        ("longest", np.float32, ()),  # of such runs, those that are over
        ("fatigue", np.float32, ()),  # marks, slowly forgotten
        ("rest", np.int32, ()),  # points until another mark may be made
        ("quiet", np.int32, ()),  # points until another notification
        ("visited", np.uint16, (VIEWS, STATES)),  # `clock` when a state was seen last; 0: never
        ("clock", np.uint16, ()),
        ("least", np.int16, (VIEWS, 2)),  # of each coordinate, since the beginning
        ("most", np.int16, (VIEWS, 2)),
        ("day_lows", np.int16, (HALF_HOURS, DAYS, 2)),  # of the value and of its mean over six points
        ("day_highs", np.int16, (HALF_HOURS, DAYS, 2)),
        ("days", np.uint16, (HALF_HOURS, DAYS)),  # since 1970, from 1, of what stands in lows and highs; 0: nothing
        ("week_lows", np.int16, (HOURS, WEEKS, 2)),
        ("week_highs", np.int16, (HOURS, WEEKS, 2)),
        ("weeks", np.uint8, (HOURS, WEEKS)),  # since 1970, modulo 255, from 1; 0: nothing
        ("weekly", np.float32, ()),  # how much speaks for the band of the week, see seasons.py
    ]
    plain = np.dtype([(name, kind, shape) for name, kind, shape in fields])
    offsets = {name: place[1] for name, place in (plain.fields or {}).items()}
    return np.dtype(
        {
            "names": [*offsets, "times", "values"],
            "formats": [*(plain[name] for name in offsets), (np.int64, EARLY), (np.float64, EARLY)],
            "offsets": [*offsets.values(), offsets["states"], offsets["states"] + 8 * EARLY],
            "itemsize": plain.itemsize + -plain.itemsize % 8,
        }
    )


RECORD: Final = _layout()


def packed(record: np.void) -> bytes:
    """A record as bytes that `unpacked` takes, in this version or not at all."""
    raw = record.tobytes()
    return HEADER.pack(VERSION, zlib.crc32(raw)) + zlib.compress(raw, 1)


def unpacked(state: bytes) -> np.void:
    """Raises BadState for anything that `packed` of this version did not make."""
    try:
        version, checksum = HEADER.unpack_from(state)
        if version != VERSION:
            raise BadState(f"state of version {version}; this one reads {VERSION}")
        raw = zlib.decompressobj().decompress(state[HEADER.size :], RECORD.itemsize + 1)
    except (struct.error, zlib.error) as failure:
        raise BadState(f"no state of a series: {failure}") from failure
    if len(raw) != RECORD.itemsize or zlib.crc32(raw) != checksum:
        raise BadState("no state of a series: damaged")
    record: np.void = np.frombuffer(raw, RECORD)[0]
    return record
