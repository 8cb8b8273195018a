"""The sections of a file: which rows each is about, by what these are known, and by which verbs they are written."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils import timezone

from alerts import silences
from alerts.models import Channel, Mode, Route, Rule, Silence
from alerts.notifications import channel_lifecycle
from alerts.rules import lifecycle
from rest.errors import InvalidFields

Key = tuple[Any, ...]
Values = Mapping[str, Any]


class Section(ABC):
    """Rows of one table. What a file says of one is the whole of it: a field that is not named is as by itself.

    fields    that a file may set, in the order in which they are written
    required  those that a file has to name, by which its rows are known
    always    those that are written though they are as by themselves
    number    the field with the id by which a row may be told from others of its name; empty: there is none
    secrets   fields that come from the environment; where a file does not name them they stay as they are
    """

    name: ClassVar[str]
    word: ClassVar[str]
    model: ClassVar[type[Any]]
    fields: ClassVar[tuple[str, ...]]
    required: ClassVar[frozenset[str]] = frozenset({"name"})
    always: ClassVar[frozenset[str]]
    number: ClassVar[str] = ""
    secrets: ClassVar[frozenset[str]] = frozenset()

    def stored(self) -> "QuerySet[Any]":
        """The rows that a file is about: those that are exported, and that pruning may delete."""
        return self.model.objects.order_by("pk")

    def keys(self, values: Values) -> list[Key]:
        """By what it is known, the surest first."""
        return [("name", values["name"])]

    def title(self, row: Any) -> str:
        return f"{self.word} “{row}”"

    def is_over(self, values: Values) -> bool:
        """Whether there is nothing to do about it any more."""
        return False

    def faults(self, row: Any) -> Iterator[tuple[str, str]]:
        """(field, what is wrong) of a row that is to be written."""
        try:
            self.check(row)
        except InvalidFields as error:
            yield from error.fields
        try:
            row.full_clean()
        except ValidationError as error:
            for field, told in error.message_dict.items():
                yield field, " ".join(told)

    def values_of(self, row: Any, fields: Iterable[str]) -> dict[str, Any]:
        return {name: getattr(row, name) for name in fields}

    @abstractmethod
    def check(self, row: Any) -> None:
        """Raises InvalidFields."""

    @abstractmethod
    def create(self, row: Any, by: str) -> None:
        """Store what `row` says."""

    @abstractmethod
    def change(self, row: Any, fields: Iterable[str], by: str) -> None:
        """Store these fields of `row`."""

    def delete(self, row: Any, by: str) -> None:
        row.delete()


class Rules(Section):
    """Shadows are tries, and belong to the site where they are tried."""

    name, word, model = "rules", "rule", Rule
    number = "rule_id"
    fields = (number, *lifecycle.FIELDS)
    always = frozenset({number, "name", "metric_name", "condition", "threshold_value", "level"})

    def stored(self) -> "QuerySet[Rule]":
        return Rule.objects.filter(mode=Mode.LIVE).order_by("pk")

    def keys(self, values: Values) -> list[Key]:
        number = values.get("rule_id")
        return [*([("rule_id", number)] if number else []), ("name", values["name"])]

    def check(self, row: Rule) -> None:
        lifecycle.spec_of(row)

    def create(self, row: Rule, by: str) -> None:
        lifecycle.create(lifecycle.document_of(row), by, rule_id=row.rule_id)

    def change(self, row: Rule, fields: Iterable[str], by: str) -> None:
        lifecycle.change(row, self.values_of(row, fields), by)

    def delete(self, row: Rule, by: str) -> None:
        lifecycle.delete(row, by)


class Channels(Section):
    name, word, model = "channels", "channel", Channel
    fields = channel_lifecycle.CHANNEL_FIELDS
    always = frozenset({"name", "kind"})
    secrets = Channel.audit_hidden

    def check(self, row: Channel) -> None:
        channel_lifecycle.check_channel(row)

    def create(self, row: Channel, by: str) -> None:
        channel_lifecycle.create_channel(self.values_of(row, self.fields), by)

    def change(self, row: Channel, fields: Iterable[str], by: str) -> None:
        channel_lifecycle.change_channel(row, self.values_of(row, fields))

    def delete(self, row: Channel, by: str) -> None:
        channel_lifecycle.delete_channel(row)


class Routes(Section):
    name, word, model = "routes", "route", Route
    fields = channel_lifecycle.ROUTE_FIELDS
    always = frozenset({"name", "channels"})

    def check(self, row: Route) -> None:
        channel_lifecycle.check_route(row)

    def create(self, row: Route, by: str) -> None:
        channel_lifecycle.create_route(self.values_of(row, self.fields), by)

    def change(self, row: Route, fields: Iterable[str], by: str) -> None:
        channel_lifecycle.change_route(row, self.values_of(row, fields))


class Silences(Section):
    """Those that are planned or on: neither what is over, nor what keeps one alert quiet."""

    name, word, model = "silences", "silence", Silence
    number = "silence_id"
    fields = (number, *(name for name in silences.SILENCE_FIELDS if name != "alert_id"))
    required = frozenset({"reason", "starts_at", "ends_at"})
    always = required | {number}

    def stored(self) -> "QuerySet[Silence]":
        return Silence.objects.filter(ends_at__gt=timezone.now(), alert_id="").order_by("pk")

    def keys(self, values: Values) -> list[Key]:
        number = values.get("silence_id")
        return [*([("silence_id", number)] if number else []), ("reason", values["reason"], values["starts_at"])]

    def is_over(self, values: Values) -> bool:
        return bool(values["ends_at"] <= timezone.now())

    def check(self, row: Silence) -> None:
        silences.validate(self.values_of(row, silences.SILENCE_FIELDS))

    def create(self, row: Silence, by: str) -> None:
        row.save(force_insert=True)

    def change(self, row: Silence, fields: Iterable[str], by: str) -> None:
        row.save(update_fields=[*fields, "updated_at"])


# In the order in which they are written: what others name comes first.
SECTIONS: tuple[Section, ...] = (Channels(), Rules(), Routes(), Silences())
