"""Plan what applying a file changes, without changing anything, and find every error of the file."""

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from alerts.models.names import ID_LENGTH
from alerts.rules.as_code.fields import find_type_errors, to_field_value
from alerts.rules.as_code.secrets import MissingSecret
from alerts.rules.as_code.sections import SECTIONS, FileSection, RowKey
from alerts.rules.as_code.yaml_reader import InvalidFile, YamlFile

VERSION = 1
APPLY_AUTHOR = "command:apply"
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_LENGTH}}}\Z")


class ChangeKind(StrEnum):
    """Kind of change of a row."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """A change of one row. `row` has its new values; `fields` has old and new value of each field that differs."""

    section: FileSection
    kind: ChangeKind
    row: Any
    fields: Mapping[str, tuple[Any, Any]]


@dataclass(slots=True)
class ApplyPlan:
    """Changes in the order in which they are made, and the number of rows that match the file already."""

    changes: list[PlannedChange] = field(default_factory=list)
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    """The fields of one row in a file; `path` such as rules[3]."""

    path: str
    values: dict[str, Any]


def make_plan(file: YamlFile, environment: Mapping[str, str], prune: bool) -> ApplyPlan:
    """Return the changes that make the database match the file. Raises InvalidFile with every error."""
    document = file.value
    plan = ApplyPlan()
    names = [section.name for section in SECTIONS]
    if not isinstance(document, dict):
        file.add_error("", f"version: {VERSION} and any of {', '.join(names)} are accepted")
    else:
        if type(document.get("version")) is not int or document["version"] != VERSION:
            file.add_error("version", f"{VERSION} is accepted")
        for name in document.keys() - {"version", *names}:
            file.add_error(name, f"is unknown; accepted are version, {', '.join(names)}")
        for section in SECTIONS:
            if section.name in document:
                _SectionPlanner(section, file, environment, plan).add_changes(prune)
    if file.errors:
        raise InvalidFile(sorted(file.errors, key=lambda error: error.line))
    return plan


@dataclass(slots=True)
class _SectionPlanner:
    """Adds the changes of one section to a plan, and its errors to the file."""

    section: FileSection
    file: YamlFile
    environment: Mapping[str, str]
    plan: ApplyPlan

    def add_changes(self, prune: bool) -> None:
        section = self.section
        valid = list(self._read_entries())
        entries = [entry for entry in valid if not section.is_expired(entry.values)]
        self.plan.unchanged += len(valid) - len(entries)
        paths = _group_by_key((key, entry.path) for entry in entries for key in section.keys(entry.values))
        rows = list(section.stored())
        rows_by_key = _group_by_key((key, row) for row in rows for key in section.keys(row.__dict__))
        matched: dict[int, str] = {}  # path of the entry by primary key
        for entry in entries:
            key = section.keys(entry.values)[0]
            candidates = rows_by_key.get(key, [])
            duplicates = [path for path in paths[key] if path != entry.path]
            if not duplicates and candidates and candidates[0].pk in matched:
                duplicates = [matched[candidates[0].pk]]
            if duplicates:
                self.file.add_error(entry.path, f"{duplicates[0]} is the same {section.word}")
            elif len(candidates) > 1:
                detail = f"{len(candidates)} {section.name} have this name; set {section.id_field} to choose one"
                self.file.add_error(entry.path, detail)
            else:
                row = candidates[0] if candidates else None
                if row is not None:
                    matched[row.pk] = entry.path
                self._compare(entry, row)
        if prune:
            unmatched = (row for row in rows if row.pk not in matched)
            self.plan.changes += [PlannedChange(section, ChangeKind.DELETE, row, {}) for row in unmatched]

    def _read_entries(self) -> Iterator[_Entry]:
        """Yield the entries with valid fields."""
        items = self.file.value[self.section.name]
        if not isinstance(items, list):
            self.file.add_error(self.section.name, "a list is accepted; [] if there are none")
            return
        for number, item in enumerate(items):
            path = f"{self.section.name}[{number}]"
            errors_before = len(self.file.errors)
            values = dict(self._read_fields(path, item))
            if len(self.file.errors) == errors_before:
                yield _Entry(path, values)

    def _read_fields(self, path: str, item: Any) -> Iterator[tuple[str, Any]]:
        section = self.section
        if not isinstance(item, dict):
            self.file.add_error(path, f"the fields of a {section.word} are accepted")
            return
        for name in section.required - item.keys():
            self.file.add_error(f"{path}.{name}", "is missing")
        for name, value in item.items():
            if name not in section.fields:
                self.file.add_error(f"{path}.{name}", f"is unknown; accepted are {', '.join(section.fields)}")
            else:
                yield from self._read_field(f"{path}.{name}", name, value)

    def _read_field(self, path: str, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        section = self.section
        model_field = section.field(name)
        errors = list(find_type_errors(model_field, value))
        for inner_path, detail in errors:
            self.file.add_error(path + inner_path, detail)
        if errors:
            return
        if name == section.id_field and not _ID.match(value):
            self.file.add_error(path, f"1 to {ID_LENGTH} letters, digits, - and _ are accepted")
        elif name in section.secrets:
            try:
                yield name, section.read_secret(value, self.environment)
            except MissingSecret as error:
                self.file.add_error(path, str(error))
        else:
            yield name, to_field_value(model_field, value)

    def _compare(self, entry: _Entry, row: Any) -> None:
        """Plan the change of a row to its entry in the file. `row` None: create it."""
        section = self.section
        target = copy(row) if row is not None else section.model(created_by=APPLY_AUTHOR)
        for name in section.fields:
            if name in entry.values:
                setattr(target, name, entry.values[name])
            elif name not in section.secrets and name != section.id_field:
                setattr(target, name, section.field(name).get_default())
        section.complete(target)
        source = row if row is not None else section.model()
        fields = {name: (getattr(source, name), getattr(target, name)) for name in section.fields}
        if row is None:
            fields = {name: values for name, values in fields.items() if name in entry.values}
        else:
            fields = {name: (before, after) for name, (before, after) in fields.items() if before != after}
            if not fields:
                self.plan.unchanged += 1
                return
        first_errors: dict[str, str] = {}
        for name, detail in section.find_errors(target):
            first_errors.setdefault(name, detail)
        for name, detail in first_errors.items():
            self.file.add_error(entry.path if name == "__all__" else f"{entry.path}.{name}", detail)
        kind = ChangeKind.CREATE if row is None else ChangeKind.CHANGE
        self.plan.changes.append(PlannedChange(section, kind, target, fields))


def _group_by_key(pairs: Iterable[tuple[RowKey, Any]]) -> dict[RowKey, list[Any]]:
    groups: dict[RowKey, list[Any]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
