"""Results of a collection: readings and deployments. Pure."""

from datetime import datetime
from typing import NamedTuple

Value = float | int | bool | str


class CollectFailed(Exception):
    """A collection, or a part of it, failed; the message is one line. Readings before it are stored all the same."""


class Reading(NamedTuple):
    """One measured value.

    device_id  None: the device of the collector
    time       µs since 1970; None: start of the collection
    """

    metric: str
    value: Value
    unit: str | None = None
    device_id: str | None = None
    tags: dict[str, str] | None = None
    time: int | None = None


class Deployment(NamedTuple):
    """A version of something that was deployed, in one state.

    deployment_id  the same in every state of one deployment
    at             when it reached the state; None: unknown
    """

    deployment_id: str
    version: str
    state: str
    at: datetime | None = None
