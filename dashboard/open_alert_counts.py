"""How many alerts are open: counted up to a bound, since every page asks, and a storm may open a hundred thousand."""

from dataclasses import dataclass

from django.db import connection
from django.db.models.expressions import RawSQL

from alerts.models import LEVEL_RANKS, OPEN_STATUSES, Alert, Level, Status
from alerts.models.alerts import AlertQuerySet
from rest.caller import Caller

BOUND = 1000  # counting stops here, of each status and level
_COUNTED = """
SELECT status.asked, level.asked, (SELECT count(*) FROM ({few}) AS few)
FROM unnest(%s::text[]) AS status (asked), unnest(%s::text[]) AS level (asked)
"""

Numbers = dict[str, int]


@dataclass(frozen=True, slots=True)
class Counted:
    """A number that was counted no further than to the bound; then its words say that there are more."""

    number: int

    def __bool__(self) -> bool:
        return self.number > 0

    def __str__(self) -> str:
        return str(self.number) if self.number < BOUND else f"{BOUND - 1}+"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many alerts are open: by level, those that need someone and those that somebody has."""

    active: Numbers
    acknowledged: Numbers

    @classmethod
    def of(cls, caller: Caller) -> "Tally":
        """Whatever whoever asks sees."""
        numbers = _numbers(Alert.objects.visible_to(caller).without_shadows())
        return cls(numbers.get(Status.ACTIVE, {}), numbers.get(Status.ACKNOWLEDGED, {}))

    @property
    def waiting(self) -> Counted:
        """How many need someone."""
        return Counted(sum(self.active.values()))

    @property
    def open(self) -> Counted:
        return Counted(sum(self.active.values()) + sum(self.acknowledged.values()))

    @property
    def worst(self) -> str:
        """The worst level of those that need someone."""
        return max(self.active, key=lambda level: LEVEL_RANKS[level], default="")

    @property
    def by_level(self) -> list[tuple[str, Counted, Counted]]:
        """Each level from the worst on: how many are open, and how many of them need someone."""
        return [
            (level, self._of(level, self.active, self.acknowledged), self._of(level, self.active))
            for level in reversed(Level.values)
        ]

    @staticmethod
    def _of(level: str, *numbers: Numbers) -> Counted:
        return Counted(sum(one.get(level, 0) for one in numbers))


def _numbers(seen: AlertQuerySet) -> dict[str, Numbers]:
    """By status and level, those that there are: the newest of each by the index, counted by the database."""
    of_each = seen.filter(status=RawSQL("status.asked", ()), level=RawSQL("level.asked", ()))
    few, given = of_each.order_by("-triggered_at").values("pk")[:BOUND].query.sql_with_params()
    found: dict[str, Numbers] = {}
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED.format(few=few), [*given, list(OPEN_STATUSES), Level.values])
        for status, level, number in cursor.fetchall():
            if number:
                found.setdefault(status, {})[level] = number
    return found
