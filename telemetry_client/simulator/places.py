"""Sites at which simulated devices are installed."""

from typing import NamedTuple


class Place(NamedTuple):
    name: str
    city: str
    latitude: float
    longitude: float


PLACES = (
    Place("north plant", "Hamburg", 53.5511, 9.9937),
    Place("south plant", "Munich", 48.1351, 11.5820),
    Place("harbour depot", "Rotterdam", 51.9244, 4.4777),
    Place("west depot", "Leeds", 53.8008, -1.5491),
    Place("east plant", "Wrocław", 51.1079, 17.0385),
    Place("alpine site", "Innsbruck", 47.2692, 11.4041),
)
