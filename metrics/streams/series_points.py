"""The points of one series in a commit, as feeds take them. Pure."""

from typing import NamedTuple

from metrics.storage.format.codec import Columns, Ints, Kind
from metrics.storage.format.contexts import unit_of
from metrics.storage.format.json_values import to_json_value
from metrics.streams.encoding import SeriesValue


class StreamedSeries(NamedTuple):
    """A series whose values are streamed.

    series_id  the same for all kinds of values of one metric of one device: to clients they are one series
    """

    series_id: int
    device_id: str
    metric_name: str
    kind: Kind


class SeriesPoints:
    """The points of one series in a part, from `low` to before `high`; ascending in time.

    unit  in the metric's definition, of points without a unit of their own
    """

    __slots__ = ("_newest", "high", "low", "part", "series", "unit")

    def __init__(self, series: StreamedSeries, part: Columns, low: int, high: int, unit: str | None) -> None:
        self.series, self.part, self.low, self.high, self.unit = series, part, low, high, unit
        self._newest: SeriesValue | None = None

    def __len__(self) -> int:
        return self.high - self.low

    @property
    def times(self) -> Ints:
        return self.part.times[self.low : self.high]

    @property
    def newest(self) -> SeriesValue:
        """The value of the last point, made once for all feeds."""
        if self._newest is None:
            self._newest = self.value_at(self.high - 1)
        return self._newest

    def value_at(self, position: int, late: bool = False) -> SeriesValue:
        """Return the value at a position of the part."""
        part, series = self.part, self.series
        unit = self.unit
        if part.contexts is not None:
            unit = unit_of(part.dictionary[part.contexts[position]]) or unit
        return SeriesValue(
            series.series_id,
            series.device_id,
            series.metric_name,
            int(part.times[position]),
            to_json_value(part.values[position], series.kind),
            unit,
            0,
            late,
        )
