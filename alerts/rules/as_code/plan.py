"""What applying a file would change, found without changing anything, and everything that is wrong with the file."""

import re
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from alerts.models.names import ID_LENGTH
from alerts.rules.as_code.fields import as_kept, wrong
from alerts.rules.as_code.secrets import NotThere, fill_in
from alerts.rules.as_code.sections import SECTIONS, Key, Section
from alerts.rules.as_code.yaml_reader import BadFile, Text

VERSION = 1
BY = "command:apply"
_NUMBER = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_LENGTH}}}\Z")


class Verb(StrEnum):
    """What becomes of a row."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """`row` is as it is to be; `fields` holds what it was and what it is to be of those that differ."""

    section: Section
    verb: Verb
    row: Any
    fields: Mapping[str, tuple[Any, Any]]


@dataclass(slots=True)
class Plan:
    """Changes in the order in which they are made, and how many rows are as the file says."""

    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a file says of one row, at a place such as rules[3]."""

    place: str
    values: dict[str, Any]


def make_plan(text: Text, environment: Mapping[str, str], prune: bool) -> Plan:
    """The changes that make this site what the file says. Raises BadFile with everything that is wrong."""
    document = text.value
    plan = Plan()
    if not isinstance(document, dict):
        text.wrong("", f"version: {VERSION} and any of {', '.join(_names())} are accepted")
    else:
        if type(document.get("version")) is not int or document["version"] != VERSION:
            text.wrong("version", f"{VERSION} is accepted")
        for name in document.keys() - {"version", *_names()}:
            text.wrong(name, f"is not known; version, {', '.join(_names())} are accepted")
        for section in SECTIONS:
            if section.name in document:
                _plan_section(section, text, environment, prune, plan)
    if text.faults:
        raise BadFile(sorted(text.faults, key=lambda fault: fault.line))
    return plan


def _names() -> list[str]:
    return [section.name for section in SECTIONS]


def _plan_section(section: Section, text: Text, environment: Mapping[str, str], prune: bool, plan: Plan) -> None:
    said = list(_entries(section, text, environment))
    entries = [entry for entry in said if not section.is_over(entry.values)]
    plan.unchanged += len(said) - len(entries)
    places = _by_key((key, entry.place) for entry in entries for key in section.keys(entry.values))
    rows = list(section.stored())
    known = _by_key((key, row) for row in rows for key in section.keys(row.__dict__))
    taken: dict[int, str] = {}
    for entry in entries:
        key = section.keys(entry.values)[0]
        found = known.get(key, [])
        others = [place for place in places[key] if place != entry.place]
        if not others and found and found[0].pk in taken:
            others = [taken[found[0].pk]]
        if others:
            text.wrong(entry.place, f"{others[0]} is the same {section.word}")
        elif len(found) > 1:
            text.wrong(entry.place, f"{len(found)} {section.name} are called so; {section.number} says which is meant")
        else:
            row = found[0] if found else None
            if row is not None:
                taken[row.pk] = entry.place
            _plan_row(section, text, entry, row, plan)
    if prune:
        gone = (row for row in rows if row.pk not in taken)
        plan.changes += [Change(section, Verb.DELETE, row, {}) for row in gone]


def _by_key(found: Iterator[tuple[Key, Any]]) -> dict[Key, list[Any]]:
    by_key: dict[Key, list[Any]] = {}
    for key, one in found:
        by_key.setdefault(key, []).append(one)
    return by_key


def _entries(section: Section, text: Text, environment: Mapping[str, str]) -> Iterator[_Entry]:
    """Those whose fields are there and of the right types; faults of the others are remembered."""
    given = text.value[section.name]
    if not isinstance(given, list):
        text.wrong(section.name, "a list is accepted; [] where there are none")
        return
    for number, one in enumerate(given):
        place = f"{section.name}[{number}]"
        before = len(text.faults)
        values = dict(_values(section, text, environment, place, one))
        if len(text.faults) == before:
            yield _Entry(place, values)


def _values(
    section: Section, text: Text, environment: Mapping[str, str], place: str, given: Any
) -> Iterator[tuple[str, Any]]:
    if not isinstance(given, dict):
        text.wrong(place, f"the fields of a {section.word} are accepted")
        return
    for name in section.required - given.keys():
        text.wrong(f"{place}.{name}", "is missing")
    for name, value in given.items():
        where = f"{place}.{name}"
        if name not in section.fields:
            text.wrong(where, f"is not known; {', '.join(section.fields)} are accepted")
            continue
        told = [*wrong(section.model._meta.get_field(name), value)]
        for inner, detail in told:
            text.wrong(where + inner, detail)
        if told:
            continue
        if name == section.number and not _NUMBER.match(value):
            text.wrong(where, f"1 to {ID_LENGTH} letters, digits, - and _ are accepted")
        elif name in section.secrets:
            try:
                yield name, fill_in(value, environment)
            except NotThere as error:
                text.wrong(where, str(error))
        else:
            yield name, as_kept(section.model._meta.get_field(name), value)


def _plan_row(section: Section, text: Text, entry: _Entry, row: Any, plan: Plan) -> None:
    """Compare an entry with the row that it is about; None: there is none yet."""
    wanted = copy(row) if row is not None else section.model(created_by=BY)
    for name in section.fields:
        if name in entry.values:
            setattr(wanted, name, entry.values[name])
        elif name not in section.secrets and name != section.number:
            setattr(wanted, name, section.model._meta.get_field(name).get_default())
    was = row if row is not None else section.model()
    fields = {name: (getattr(was, name), getattr(wanted, name)) for name in section.fields}
    if row is None:
        fields = {name: pair for name, pair in fields.items() if name in entry.values}
    else:
        fields = {name: (before, after) for name, (before, after) in fields.items() if before != after}
        if not fields:
            plan.unchanged += 1
            return
    told: dict[str, str] = {}
    for name, detail in section.faults(wanted):
        told.setdefault(name, detail)
    for name, detail in told.items():
        text.wrong(entry.place if name == "__all__" else f"{entry.place}.{name}", detail)
    plan.changes.append(Change(section, Verb.CREATE if row is None else Verb.CHANGE, wanted, fields))
