"""The site as a file, which applied to it changes nothing, and which applied to an empty one makes the same again."""

from collections.abc import Iterator
from typing import Any

import yaml

from alerts.rules.as_code.fields import as_written
from alerts.rules.as_code.plan import VERSION
from alerts.rules.as_code.secrets import in_clear, placeholders
from alerts.rules.as_code.sections import SECTIONS, Section
from alerts.rules.as_code.yaml_reader import SCALARS

WIDTH = 120


def export(with_secrets: bool = False) -> str:
    """YAML of all sections. Secrets are names of the environment unless asked for in clear."""
    document = {section.name: list(_entries(section, with_secrets)) for section in SECTIONS}
    return yaml.dump({"version": VERSION} | document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)


def _entries(section: Section, with_secrets: bool) -> Iterator[dict[str, Any]]:
    rows = sorted(section.stored(), key=lambda row: section.keys(row.__dict__)[::-1])
    prefixes = placeholders(str(row) for row in rows) if section.secrets else {}
    by_itself = section.model()
    for row in rows:
        entry = {}
        for name in section.fields:
            value = getattr(row, name)
            if name not in section.always and value == getattr(by_itself, name):
                continue
            if name in section.secrets:
                value = in_clear(value) if with_secrets else f"${{{prefixes[str(row)]}_{name.upper()}}}"
            entry[name] = as_written(value)
        yield entry


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 might take for something else; a list of names in one line, a text of many in
    its lines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # items of a list stand under its name, not beside it


for _tag, _pattern, _first in SCALARS:
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    if not value.replace("\n", "").isprintable():
        style = '"'  # the emitter takes U+0085 for the end of a line, elsewhere
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    short = not any(isinstance(one, (list, dict)) for one in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=short)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
