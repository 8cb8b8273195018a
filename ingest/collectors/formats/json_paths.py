"""Values of JSON documents by JSONPath (RFC 9535). Pure."""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any, cast

from jsonpath import JSONPathEnvironment
from jsonpath.exceptions import JSONPathError

from ingest.collectors.reading import CollectFailed, Value

MAX_MATCHES = 100  # of one path
MAX_PATH_LENGTH = 500


@cache
def _environment() -> JSONPathEnvironment:
    return JSONPathEnvironment(strict=True)


def check_path(path: Any) -> str | None:
    """Return why a text is not a valid JSONPath; None if it is."""
    if not isinstance(path, str) or not 0 < len(path) <= MAX_PATH_LENGTH:
        return f"a JSONPath of 1 to {MAX_PATH_LENGTH} characters is accepted"
    try:
        _environment().compile(path)
    except (JSONPathError, RecursionError) as error:
        return f"not a JSONPath such as $.queue.depth: {str(error).splitlines()[0]}"
    return None


def find_values(document: Any, paths: Mapping[str, str], *, optional: bool) -> Iterator[tuple[str, Value]]:
    """Yield (name, value) of each path; several matches of a path get their different keys appended.

    `optional`: paths without a match are left out, unless no path matches at all. Raises CollectFailed after all
    values, with the paths that match nothing, or no single values.
    """
    problems: list[str] = []
    is_empty = True
    for name, path in paths.items():
        matches = list(islice(_environment().finditer(path, document), MAX_MATCHES + 1))
        if not matches:
            if not optional:
                problems.append(f"{path} matches nothing")
            continue
        if len(matches) > MAX_MATCHES:
            problems.append(f"{path} matches more than {MAX_MATCHES} values")
            continue
        wrong = next((match for match in matches if not isinstance(match.value, int | float | bool | str)), None)
        if wrong is not None:
            problems.append(f"{path} matches {_word(wrong.value)}: a number, a text, true or false is accepted")
            continue
        is_empty = False
        for match in matches:
            suffix = "" if len(matches) == 1 else "".join(f".{key}" for key in _keys(match.parts, matches[0].parts))
            yield name + suffix, cast(Value, match.value)
    if is_empty and not problems:
        problems.append(f"none of the paths matches: {', '.join(list(paths.values())[:5])}")
    if problems:
        raise CollectFailed("; ".join(problems[:5]))


def find_one(document: Any, path: str) -> Any:
    """Return the first match of a path; None if there is none."""
    match = next(iter(_environment().finditer(path, document)), None)
    return None if match is None else match.value


def _keys(parts: Any, first: Any) -> list[Any]:
    """Return the keys of a match that may differ between matches: those after the common beginning are enough."""
    return [key for key in parts if isinstance(key, int)] or list(parts[-1:])


def _word(value: Any) -> str:
    return {dict: "an object", list: "an array", type(None): "null"}.get(type(value), "another value")
