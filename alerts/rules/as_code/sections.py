"""The sections of a file: the table of each, how its rows are identified, validated and written."""

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
from alerts.rules.as_code.secrets import escape, substitute
from rest.errors import InvalidFields

RowKey = tuple[Any, ...]
FieldValues = Mapping[str, Any]


class FileSection(ABC):
    """The rows of one table. A row in a file is complete: a field that is left out has its default.

    word      what one row is called
    fields    accepted fields, in the order of an export
    required  fields that identify a row and have to be in the file
    always    fields that are exported even with their default
    id_field  field with the ID that distinguishes rows of the same name; empty: none
    secrets   fields with placeholders for environment variables; unchanged if they are left out
    """

    name: ClassVar[str]
    word: ClassVar[str]
    model: ClassVar[type[Any]]
    fields: ClassVar[tuple[str, ...]]
    required: ClassVar[frozenset[str]] = frozenset({"name"})
    always: ClassVar[frozenset[str]]
    id_field: ClassVar[str] = ""
    secrets: ClassVar[frozenset[str]] = frozenset()

    def stored(self) -> "QuerySet[Any]":
        """Return the rows that are exported, and that pruning may delete."""
        return self.model.objects.order_by("pk")

    def keys(self, values: FieldValues) -> list[RowKey]:
        """Return the keys that identify a row, the most specific first."""
        return [("name", values["name"])]

    def title(self, row: Any) -> str:
        return f"{self.word} “{row}”"

    def field(self, name: str) -> Any:
        """Return the model field of an accepted field."""
        return self.model._meta.get_field(name)

    def read_secret(self, value: Any, environment: Mapping[str, str]) -> Any:
        """Return a secret of a file with its placeholders replaced. Raises MissingSecret."""
        return substitute(value, environment)

    def write_secret(self, value: Any, placeholder: str) -> Any:
        """Return a secret as it is exported: as `placeholder`, or escaped where that is empty."""
        return placeholder or escape(value)

    def complete(self, row: Any) -> None:  # noqa: B027 - most sections have nothing to do
        """Set what a file may leave out within a field, before the row is compared with the stored one."""

    def is_expired(self, values: FieldValues) -> bool:
        """Whether the row has expired and is ignored."""
        return False

    def find_errors(self, row: Any) -> Iterator[tuple[str, str]]:
        """Yield (field, error) for a row to write."""
        try:
            self.validate(row)
        except InvalidFields as error:
            yield from error.fields
        try:
            row.full_clean()
        except ValidationError as error:
            for field, messages in error.message_dict.items():
                yield field, " ".join(messages)

    def values_of(self, row: Any, fields: Iterable[str]) -> dict[str, Any]:
        return {name: getattr(row, name) for name in fields}

    @abstractmethod
    def validate(self, row: Any) -> None:
        """Raise InvalidFields if the row is invalid."""

    @abstractmethod
    def create(self, row: Any, by: str) -> None:
        """Store a new row."""

    @abstractmethod
    def change(self, row: Any, fields: Iterable[str], by: str) -> None:
        """Store these fields of a row."""

    def delete(self, row: Any, by: str) -> None:
        row.delete()


class RuleSection(FileSection):
    """Live rules. Shadow rules are local experiments and not part of a file."""

    name, word, model = "rules", "rule", Rule
    id_field = "rule_id"
    fields = (id_field, *lifecycle.FIELDS)
    always = frozenset({id_field, "name", "metric_name", "condition", "threshold_value", "level"})

    def stored(self) -> "QuerySet[Rule]":
        return Rule.objects.filter(mode=Mode.LIVE).order_by("pk")

    def keys(self, values: FieldValues) -> list[RowKey]:
        rule_id = values.get("rule_id")
        return [*([("rule_id", rule_id)] if rule_id else []), ("name", values["name"])]

    def validate(self, row: Rule) -> None:
        lifecycle.spec_of(row)

    def create(self, row: Rule, by: str) -> None:
        lifecycle.create(lifecycle.document_of(row), by, rule_id=row.rule_id)

    def change(self, row: Rule, fields: Iterable[str], by: str) -> None:
        lifecycle.change(row, self.values_of(row, fields), by)

    def delete(self, row: Rule, by: str) -> None:
        lifecycle.delete(row, by)


class ChannelSection(FileSection):
    name, word, model = "channels", "channel", Channel
    fields = channel_lifecycle.CHANNEL_FIELDS
    always = frozenset({"name", "kind"})
    secrets = Channel.audit_hidden

    def validate(self, row: Channel) -> None:
        channel_lifecycle.check_channel(row)

    def create(self, row: Channel, by: str) -> None:
        channel_lifecycle.create_channel(self.values_of(row, self.fields), by)

    def change(self, row: Channel, fields: Iterable[str], by: str) -> None:
        channel_lifecycle.change_channel(row, self.values_of(row, fields))

    def delete(self, row: Channel, by: str) -> None:
        channel_lifecycle.delete_channel(row)


class RouteSection(FileSection):
    name, word, model = "routes", "route", Route
    fields = channel_lifecycle.ROUTE_FIELDS
    always = frozenset({"name", "channels"})

    def validate(self, row: Route) -> None:
        channel_lifecycle.check_route(row)

    def create(self, row: Route, by: str) -> None:
        channel_lifecycle.create_route(self.values_of(row, self.fields), by)

    def change(self, row: Route, fields: Iterable[str], by: str) -> None:
        channel_lifecycle.change_route(row, self.values_of(row, fields))


class SilenceSection(FileSection):
    """Planned and active silences, except those of a single alert."""

    name, word, model = "silences", "silence", Silence
    id_field = "silence_id"
    fields = (id_field, *(name for name in silences.SILENCE_FIELDS if name != "alert_id"))
    required = frozenset({"reason", "starts_at", "ends_at"})
    always = required | {id_field}

    def stored(self) -> "QuerySet[Silence]":
        return Silence.objects.filter(ends_at__gt=timezone.now(), alert_id="").order_by("pk")

    def keys(self, values: FieldValues) -> list[RowKey]:
        silence_id = values.get("silence_id")
        return [
            *([("silence_id", silence_id)] if silence_id else []),
            ("reason", values["reason"], values["starts_at"]),
        ]

    def field(self, name: str) -> Any:
        """Return the model field of an accepted field."""
        return self.model._meta.get_field(name)

    def read_secret(self, value: Any, environment: Mapping[str, str]) -> Any:
        """Return a secret of a file with its placeholders replaced. Raises MissingSecret."""
        return substitute(value, environment)

    def write_secret(self, value: Any, placeholder: str) -> Any:
        """Return a secret as it is exported: as `placeholder`, or escaped where that is empty."""
        return placeholder or escape(value)

    def complete(self, row: Any) -> None:
        """Set what a file may leave out within a field, before the row is compared with the stored one."""

    def is_expired(self, values: FieldValues) -> bool:
        return bool(values["ends_at"] <= timezone.now())

    def validate(self, row: Silence) -> None:
        silences.validate(self.values_of(row, silences.SILENCE_FIELDS))

    def create(self, row: Silence, by: str) -> None:
        row.save(force_insert=True)

    def change(self, row: Silence, fields: Iterable[str], by: str) -> None:
        row.save(update_fields=[*fields, "updated_at"])


# In the order of writes: rules and routes name channels.
SECTIONS: list[FileSection] = [ChannelSection(), RuleSection(), RouteSection(), SilenceSection()]


def register_section(section: FileSection) -> None:
    """Add the section of another application."""
    if all(known.name != section.name for known in SECTIONS):
        SECTIONS.append(section)
