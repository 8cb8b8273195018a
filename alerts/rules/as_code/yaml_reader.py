"""Read YAML of limited size, with the line number of every value.

Scalars have the types of YAML 1.2: `no`, `22:00` and `2026-11-21` are texts. Keys are unique texts, values are those of
JSON. Tags construct no objects, and repeated aliases count towards the limits.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_FILE_BYTES = 1_000_000
MAX_VALUES = 250_000  # aliases count each time
MAX_CHARACTERS = 2 * MAX_FILE_BYTES  # aliases count each time
MAX_DEPTH = 32
MAX_KEY_LENGTH = 200
MAX_NUMBER_LENGTH = 400  # characters

TAG = "tag:yaml.org,2002:"
SCALAR_TYPES = (
    (TAG + "null", re.compile(r"(~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    (TAG + "bool", re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    (TAG + "int", re.compile(r"[-+]?[0-9]+\Z"), list("-+0123456789")),
    (TAG + "float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z"), list("-+.0123456789")),
    (TAG + "float", re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"), list("-+.")),
)
_FORBIDDEN = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL cannot store them in a text


@dataclass(frozen=True, slots=True)
class FileError:
    """An error at a path of the file."""

    path: str
    detail: str
    line: int

    def __str__(self) -> str:
        return f"{self.path or 'file'}: {self.detail}; line {self.line}"


class InvalidFile(ValueError):
    """A file that cannot be applied, with all its errors."""

    def __init__(self, errors: list[FileError]) -> None:
        self.errors = errors
        super().__init__("\n".join(map(str, errors)))


@dataclass(frozen=True, slots=True)
class YamlFile:
    """The value of a file, the line number of every path in it (`rules[3].threshold_value`), and errors so far."""

    value: Any
    lines: Mapping[str, int]
    errors: list[FileError] = field(default_factory=list)

    def add_error(self, path: str, detail: str) -> None:
        """Add an error; for a path that is not in the file with the line of its parent."""
        parent = path
        while parent and parent not in self.lines:
            parent = parent[: max(parent.rfind("."), parent.rfind("["), 0)]
        self.errors.append(FileError(path, detail, self.lines.get(parent, 1)))


def read_file(data: bytes) -> YamlFile:
    """Parse a file. Raises InvalidFile if it is not valid YAML or exceeds a limit."""
    if len(data) > MAX_FILE_BYTES:
        raise InvalidFile([FileError("", f"{len(data):,} bytes or more; up to {MAX_FILE_BYTES:,} are accepted", 1)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidFile([FileError("", f"byte {error.start} is not UTF-8", line)]) from None
    converter = _NodeConverter()
    try:
        root = yaml.compose(text, _Loader)
        value = None if root is None else converter.convert(root, "", 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidFile([FileError("", str(error.problem or error.context), mark.line + 1 if mark else 1)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InvalidFile([FileError("", f"character {error.character!r:.20} is not accepted", line)]) from None
    except RecursionError:
        raise InvalidFile([FileError("", f"more than {MAX_DEPTH} levels", 1)]) from None
    if converter.errors:
        raise InvalidFile(converter.errors)
    return YamlFile(value, converter.lines)


class _Loader(yaml.SafeLoader):
    """Resolves scalars by SCALAR_TYPES only, not by the rules of YAML 1.1 that PyYAML has by default."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for _tag, _pattern, _first in SCALAR_TYPES:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)


class _NodeConverter:
    """Converts nodes to values, and collects line numbers and errors."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.errors: list[FileError] = []
        self.values = self.characters = 0

    def convert(self, node: yaml.Node, path: str, depth: int) -> Any:
        line = self.lines.setdefault(path, node.start_mark.line + 1)
        self.values += 1
        self.characters += len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        if self.values > MAX_VALUES or self.characters > MAX_CHARACTERS:
            detail = f"more than {MAX_VALUES:,} values or {MAX_CHARACTERS:,} characters, with repeated aliases"
            raise InvalidFile([FileError(path, detail, line)])
        if depth > MAX_DEPTH:
            raise InvalidFile([FileError(path, f"more than {MAX_DEPTH} levels", line)])
        if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
            return dict(self._convert_items(node, path, depth))
        if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
            return [self.convert(item, f"{path}[{number}]", depth + 1) for number, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and _matches_tag(node):
            try:
                return _PARSERS[node.tag](node.value)
            except ValueError as error:
                self.errors.append(FileError(path, str(error), line))
                return None
        self.errors.append(FileError(path, f"type {node.tag.replace(TAG, '!!')!r:.60} is not accepted", line))

    def _convert_items(self, node: yaml.MappingNode, path: str, depth: int) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if (
                key.tag != TAG + "str"
                or not key.value
                or len(key.value) > MAX_KEY_LENGTH
                or _FORBIDDEN.search(key.value)
            ):
                self.errors.append(FileError(path, f"keys have to be texts of 1 to {MAX_KEY_LENGTH} characters", line))
                continue
            inner_path = f"{path}.{key.value}" if path else key.value
            if key.value in seen:
                self.errors.append(FileError(inner_path, f"is a duplicate of line {seen[key.value]}", line))
                continue
            seen[key.value] = self.lines[inner_path] = line
            yield key.value, self.convert(value, inner_path, depth + 1)


def _matches_tag(node: yaml.ScalarNode) -> bool:
    """Whether a scalar has the form of its tag; explicit tags can be wrong (`!!int abc`) or unknown (`!!binary`)."""
    return node.tag == TAG + "str" or any(
        node.tag == tag and pattern.match(node.value) for tag, pattern, _ in SCALAR_TYPES
    )


def _parse_text(text: str) -> str:
    if _FORBIDDEN.search(text):
        raise ValueError("a text without NUL and surrogate characters is accepted")
    return text


def _parse_number(text: str) -> int | float:
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError(f"a number of up to {MAX_NUMBER_LENGTH} digits is accepted")
    try:
        number: int | float = int(text)
    except ValueError:
        number = float(text.replace(".inf", "inf").replace(".nan", "nan"))
    try:
        if math.isfinite(number):
            return number
    except OverflowError:  # an integer beyond the range of float64
        pass
    raise ValueError("a finite number is accepted")


_PARSERS = {
    TAG + "null": lambda text: None,
    TAG + "bool": lambda text: text.lower() == "true",
    TAG + "int": _parse_number,
    TAG + "float": _parse_number,
    TAG + "str": _parse_text,
}
