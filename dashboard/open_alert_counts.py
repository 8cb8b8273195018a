"""The number of open alerts, on every page. Counting stops at a bound: an alert storm may open a hundred thousand."""

from dataclasses import dataclass
from typing import NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models.expressions import RawSQL

from alerts.models import LEVEL_RANKS, OPEN_STATUSES, Alert, Level, Status
from alerts.models.alerts import AlertQuerySet
from rest.caller import Caller

MAX_COUNT = 1000  # of each status and level
_COUNT_SQL = """
SELECT status.value, level.value, (SELECT count(*) FROM ({newest}) AS newest)
FROM unnest(%s::text[]) AS status (value), unnest(%s::text[]) AS level (value)
"""

LevelCounts = dict[str, int]


@dataclass(frozen=True, slots=True)
class BoundedCount:
    """A number that was counted up to a bound; from there on it is written as "999+"."""

    number: int
    bound: int = MAX_COUNT

    def __bool__(self) -> bool:
        return self.number > 0

    def __str__(self) -> str:
        return f"{self.number:,}" if self.number < self.bound else f"{self.bound - 1:,}+"


class OpenLevelCount(NamedTuple):
    """The open alerts of one level."""

    level: str
    open: BoundedCount
    unacknowledged: BoundedCount


@dataclass(frozen=True, slots=True)
class OpenAlertCounts:
    """The number of unacknowledged and of acknowledged alerts by level."""

    active: LevelCounts
    acknowledged: LevelCounts

    @classmethod
    def visible_to(cls, caller: Caller) -> "OpenAlertCounts":
        """Count the open alerts that a caller sees."""
        counts = _count(Alert.objects.visible_to(caller).without_shadows())
        return cls(counts.get(Status.ACTIVE, {}), counts.get(Status.ACKNOWLEDGED, {}))

    @property
    def unacknowledged(self) -> BoundedCount:
        return BoundedCount(sum(self.active.values()))

    @property
    def open(self) -> BoundedCount:
        return BoundedCount(sum(self.active.values()) + sum(self.acknowledged.values()))

    @property
    def worst(self) -> str:
        """The highest level of the unacknowledged alerts."""
        return max(self.active, key=lambda level: LEVEL_RANKS[level], default="")

    @property
    def title_prefix(self) -> str:
        """The unacknowledged alerts in the title of a page: "(3) "."""
        return f"({self.unacknowledged}) " if self.unacknowledged else ""

    @property
    def counts_text(self) -> str:
        """The number of open and of unacknowledged alerts in words."""
        return f"{self.open} open, {self.unacknowledged} unacknowledged"

    @property
    def by_level(self) -> list[OpenLevelCount]:
        """The counts of each level, the highest level first."""
        return [
            OpenLevelCount(
                level,
                BoundedCount(self.active.get(level, 0) + self.acknowledged.get(level, 0)),
                BoundedCount(self.active.get(level, 0)),
            )
            for level in reversed(Level.values)
        ]


def _count(alerts: AlertQuerySet) -> dict[str, LevelCounts]:
    """Return the counts that are not 0 by status and level: the newest of each are found by index."""
    of_each = alerts.filter(status=RawSQL("status.value", ()), level=RawSQL("level.value", ()))
    try:
        newest, parameters = of_each.order_by("-triggered_at").values("pk")[:MAX_COUNT].query.sql_with_params()
    except EmptyResultSet:  # the caller is in no group: Django makes no statement of a condition that is always false
        return {}
    counts: dict[str, LevelCounts] = {}
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_SQL.format(newest=newest), [*parameters, list(OPEN_STATUSES), Level.values])
        for status, level, number in cursor.fetchall():
            if number:
                counts.setdefault(status, {})[level] = number
    return counts
