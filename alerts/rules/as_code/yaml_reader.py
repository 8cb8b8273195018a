"""YAML read with the line of everything in it: of bounded size, and strict where YAML guesses.

A scalar is what YAML 1.2 says: `no`, `22:00` and `2026-11-21` are texts. Keys are texts that stand once, values those
that JSON has. Nothing is ever constructed by a tag, and aliases may not multiply it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MOST_BYTES: Final = 1_000_000
MOST_VALUES: Final = 250_000  # what aliases repeat counted each time, here
MOST_CHARACTERS: Final = 2 * MOST_BYTES  # and there
DEEPEST: Final = 32
LONGEST_KEY: Final = 200
LONGEST_NUMBER: Final = 400  # characters

TAG: Final = "tag:yaml.org,2002:"
SCALARS: Final = (
    (TAG + "null", re.compile(r"(~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    (TAG + "bool", re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    (TAG + "int", re.compile(r"[-+]?[0-9]+\Z"), list("-+0123456789")),
    (TAG + "float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z"), list("-+.0123456789")),
    (TAG + "float", re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"), list("-+.")),
)
_FORBIDDEN: Final = re.compile("[\x00\ud800-\udfff]")  # what PostgreSQL keeps in no text


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a place of a file, and what is accepted there."""

    place: str
    detail: str
    line: int

    def __str__(self) -> str:
        return f"{self.place or 'file'}: {self.detail}; line {self.line}"


class BadFile(ValueError):
    """A file that cannot be applied: everything that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("\n".join(map(str, faults)))


@dataclass(frozen=True, slots=True)
class Text:
    """A file's value, the line of every place in it (`rules[3].threshold_value`), and its faults so far."""

    value: Any
    lines: Mapping[str, int]
    faults: list[Fault] = field(default_factory=list)

    def wrong(self, place: str, detail: str) -> None:
        """Remember a fault; at a place that does not stand in the file, with the line of what it would stand in."""
        known = place
        while known and known not in self.lines:
            known = known[: max(known.rfind("."), known.rfind("["), 0)]
        self.faults.append(Fault(place, detail, self.lines.get(known, 1)))


def read(data: bytes) -> Text:
    """The file. Raises BadFile where it is not YAML or holds what no document may."""
    if len(data) > MOST_BYTES:
        raise BadFile([Fault("", f"{len(data):,} bytes or more; up to {MOST_BYTES:,} are accepted", 1)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadFile([Fault("", f"byte {error.start} is not UTF-8", line)]) from None
    walk = _Walk()
    try:
        root = yaml.compose(text, _Loader)
        value = None if root is None else walk.value(root, "", 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadFile([Fault("", str(error.problem or error.context), mark.line + 1 if mark else 1)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadFile([Fault("", f"character {error.character!r:.20} is not accepted", line)]) from None
    except RecursionError:
        raise BadFile([Fault("", f"more than {DEEPEST} levels", 1)]) from None
    if walk.faults:
        raise BadFile(walk.faults)
    return Text(value, walk.lines)


class _Loader(yaml.SafeLoader):
    """PyYAML guesses as YAML 1.1 did; this one knows what SCALARS says, and nothing else."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for _tag, _pattern, _first in SCALARS:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)


class _Walk:
    """Turns nodes into values, and remembers lines and faults."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.faults: list[Fault] = []
        self.values = self.characters = 0

    def value(self, node: yaml.Node, place: str, depth: int) -> Any:
        line = self.lines.setdefault(place, node.start_mark.line + 1)
        self.values += 1
        self.characters += len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        if self.values > MOST_VALUES or self.characters > MOST_CHARACTERS:
            told = f"more than {MOST_VALUES:,} values or {MOST_CHARACTERS:,} characters, with what aliases repeat"
            raise BadFile([Fault(place, told, line)])
        if depth > DEEPEST:
            raise BadFile([Fault(place, f"more than {DEEPEST} levels", line)])
        if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
            return dict(self._items(node, place, depth))
        if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
            return [self.value(one, f"{place}[{number}]", depth + 1) for number, one in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and _is_what_its_tag_says(node):
            try:
                return _READERS[node.tag](node.value)
            except ValueError as error:
                self.faults.append(Fault(place, str(error), line))
                return None
        self.faults.append(Fault(place, f"{node.tag.replace(TAG, '!!')!r:.60} is no type that is accepted", line))

    def _items(self, node: yaml.MappingNode, place: str, depth: int) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != TAG + "str" or not key.value or len(key.value) > LONGEST_KEY or _FORBIDDEN.search(key.value):
                self.faults.append(Fault(place, f"a key is a text of 1 to {LONGEST_KEY} characters", line))
                continue
            inner = f"{place}.{key.value}" if place else key.value
            if key.value in seen:
                self.faults.append(Fault(inner, f"is there already, in line {seen[key.value]}", line))
                continue
            seen[key.value] = self.lines[inner] = line
            yield key.value, self.value(value, inner, depth + 1)


def _is_what_its_tag_says(node: yaml.ScalarNode) -> bool:
    """By itself it is; `!!int abc` is not, and `!!binary` is nothing here."""
    return node.tag == TAG + "str" or any(node.tag == tag and known.match(node.value) for tag, known, _ in SCALARS)


def _text(written: str) -> str:
    if _FORBIDDEN.search(written):
        raise ValueError("a text without NUL and halves of character pairs is accepted")
    return written


def _number(written: str) -> int | float:
    if len(written) > LONGEST_NUMBER:
        raise ValueError(f"a number of up to {LONGEST_NUMBER} digits is accepted")
    try:
        number: int | float = int(written)
    except ValueError:
        number = float(written.replace(".inf", "inf").replace(".nan", "nan"))
    try:
        if math.isfinite(number):
            return number
    except OverflowError:  # a whole number that no float comes near
        pass
    raise ValueError("a finite number is accepted")


_READERS: Final = {
    TAG + "null": lambda written: None,
    TAG + "bool": lambda written: written.lower() == "true",
    TAG + "int": _number,
    TAG + "float": _number,
    TAG + "str": _text,
}
