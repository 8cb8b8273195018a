"""The form of an agent's configuration. Probes are written as in the configuration file of the agent."""

import configparser
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from dashboard.forms.fields import VERBATIM, DurationFormField, PageForm, TextFormField
from rest.errors import InvalidFields

KINDS = {"command": "run", "file": "path"}
EXAMPLE = "[command:pressure]\nrun = /usr/local/bin/read-pressure --json\ninterval = 60"


def parse_probes(text: str) -> list[dict[str, Any]]:
    """Return the probes of sections [command:NAME] and [file:NAME]. Raises ValidationError."""
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValidationError(str(error).replace("'<string>', ", "").replace("\n", " ")) from None
    return [_probe(section, dict(parser[section])) for section in parser.sections()]


def _probe(section: str, options: dict[str, str]) -> dict[str, Any]:
    kind, _, name = section.partition(":")
    if kind not in KINDS or not name:
        raise ValidationError(f"[{section}]: [command:NAME] and [file:NAME] are accepted.")
    probe: dict[str, Any] = {"name": name, KINDS[kind]: ""}
    for option, text in options.items():
        probe[option] = text if option in KINDS.values() else _number(section, option, text)
    return probe


def _number(section: str, option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValidationError(f"[{section}] {option}: enter a number.") from None
    return int(number) if number.is_integer() else number


def probes_text(probes: list[dict[str, Any]]) -> str:
    """Return probes as sections."""
    sections = []
    for probe in probes:
        kind = next((kind for kind, option in KINDS.items() if option in probe), "command")
        options = [
            f"{option} = {probe[option]}" for option in (*KINDS.values(), "interval", "timeout") if option in probe
        ]
        sections.append("\n".join([f"[{kind}:{probe.get('name', '')}]", *options]))
    return "\n\n".join(sections)


class AgentForm(PageForm):
    """Settings of the site for one agent."""

    interval = DurationFormField("Interval", placeholder="own")
    probes = TextFormField(
        "Probes",
        widget=forms.Textarea({"class": "input mono", "rows": 6, "placeholder": EXAMPLE} | VERBATIM),
        help_text="Commands and files that the device measures, used only where its own configuration says"
        " remote_probes = on.",
    )

    def clean_probes(self) -> list[dict[str, Any]]:
        """Return the probes as the API takes them."""
        return parse_probes(self.cleaned_data["probes"])

    def named(self, error: InvalidFields) -> InvalidFields:
        """Return an error of the API with the fields of this form."""
        return InvalidFields([self._named(name, detail) for name, detail in error.fields])

    def _named(self, name: str, detail: str) -> tuple[str, str]:
        index, _, option = name.removeprefix("probes[").partition("]")
        if index == name:
            return name, detail
        return "probes", f"{self.cleaned_data['probes'][int(index)]['name']}{option.replace('.', ' ')}: {detail}"
