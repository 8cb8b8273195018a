"""Export rules, channels, routes, silences and collectors as a file. Applied to this site it changes nothing."""

from collections.abc import Iterator
from typing import Any

import yaml

from alerts.rules.as_code.fields import to_yaml_value
from alerts.rules.as_code.plan import VERSION
from alerts.rules.as_code.secrets import variable_prefixes
from alerts.rules.as_code.sections import SECTIONS, FileSection
from alerts.rules.as_code.yaml_reader import SCALAR_TYPES

LINE_WIDTH = 120


def export(with_secrets: bool = False) -> str:
    """Return YAML of all sections. Secrets are placeholders for environment variables unless `with_secrets` is set."""
    document = {section.name: list(_entries(section, with_secrets)) for section in SECTIONS}
    return yaml.dump(
        {"version": VERSION} | document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LINE_WIDTH
    )


def _entries(section: FileSection, with_secrets: bool) -> Iterator[dict[str, Any]]:
    rows = sorted(section.stored(), key=lambda row: section.keys(row.__dict__)[::-1])
    prefixes = variable_prefixes(str(row) for row in rows) if section.secrets else {}
    defaults = section.model()
    for row in rows:
        entry = {}
        for name in section.fields:
            value = getattr(row, name)
            if name not in section.always and value == getattr(defaults, name):
                continue
            if name in section.secrets:
                value = section.write_secret(value, "" if with_secrets else f"${{{prefixes[str(row)]}_{name.upper()}}}")
            entry[name] = to_yaml_value(value)
        yield entry


class _Dumper(yaml.SafeDumper):
    """Quotes texts that YAML 1.1 or 1.2 could read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # list items are indented below their key


for _tag, _pattern, _first in SCALAR_TYPES:
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    if not value.replace("\n", "").isprintable():
        style = '"'  # the emitter breaks lines at U+0085
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _represent_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    is_flat = not any(isinstance(item, (list, dict)) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=is_flat)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)
