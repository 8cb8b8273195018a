"""Which feeds receive which series, looked up once per series."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from metrics.storage.format.codec import Ints
from metrics.streams.feeds import Feed
from metrics.streams.series_points import StreamedSeries

_NO_SERIES: Ints = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Route:
    """A series and the feeds that receive it."""

    series: StreamedSeries
    feeds: list[Feed]


class Routing:
    """The routes of all series that were looked up; ids are never used again, so a route never becomes wrong."""

    def __init__(self) -> None:
        self._routes: dict[int, Route] = {}
        self._looked_up = _NO_SERIES  # ascending
        self._routed: Ints | None = None  # ascending; None after a change of the routes

    def unknown(self, ids: Ints) -> Ints:
        """Return those of these series that were not looked up yet."""
        return ids[~_are_in(ids, self._looked_up)]

    def add_series(self, looked_up: Ints, series: Iterable[tuple[int, StreamedSeries]], feeds: Iterable[Feed]) -> None:
        """Route series that were looked up, by id; those that belong to none of the feeds are remembered as such."""
        feeds = list(feeds)
        self._looked_up = np.union1d(self._looked_up, looked_up)
        for series_id, streamed in series:
            matching = [feed for feed in feeds if feed.key.matches(streamed.device_id, streamed.metric_name)]
            if matching:
                self._routes[series_id] = Route(streamed, matching)
        self._routed = None

    def add_feed(self, feed: Feed, series: Iterable[tuple[int, StreamedSeries]]) -> None:
        """Route to a new feed all series that match it, by id.

        A series without a route does not count as looked up: other feeds may wait for it since before it was created.
        """
        for series_id, streamed in series:
            route = self._routes.get(series_id)
            if route is None:
                self._routes[series_id] = Route(streamed, [feed])
            elif feed not in route.feeds:
                route.feeds.append(feed)
        self._routed = None

    def remove_feed(self, feed: Feed) -> None:
        """Remove a feed from all routes."""
        for series_id in [series_id for series_id, route in self._routes.items() if feed in route.feeds]:
            route = self._routes[series_id]
            route.feeds.remove(feed)
            if not route.feeds:
                del self._routes[series_id]
        self._routed = None

    def find(self, ids: Ints) -> Iterator[tuple[int, Route]]:
        """Yield the position and the route of those of these series that have feeds."""
        if self._routed is None:
            self._routed = np.array(sorted(self._routes), np.int64)
        positions = np.flatnonzero(_are_in(ids, self._routed))
        for position, series_id in zip(positions.tolist(), ids[positions].tolist(), strict=True):
            # A feed may be removed between two of them.
            if (route := self._routes.get(series_id)) is not None:
                yield position, route


def _are_in(ids: Ints, ascending: Ints) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    if not len(ascending):
        return np.zeros(len(ids), bool)
    return ascending.take(ascending.searchsorted(ids), mode="clip") == ids
