"""The forms of status pages, their components, incidents and maintenance."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.utils.timezone import get_current_timezone

from dashboard.forms.fields import (
    VERBATIM,
    IntegerFormField,
    NamesFormField,
    OpenChoiceFormField,
    PageForm,
    TextFormField,
    TextLinesFormField,
)
from dashboard.status_page.models import (
    STATUSES,
    Impact,
    IncidentKind,
    StateMode,
    StatusComponent,
    StatusIncident,
    StatusPage,
)
from dashboard.status_page.tree import ComponentTree
from rest.fields import MAX_TAGS

IMPACTS = [(impact.value, impact.label) for impact in Impact if impact != Impact.MAINTENANCE]


def _text_area(label: str, rows: int = 3, **options: Any) -> TextFormField:
    return TextFormField(label, widget=forms.Textarea({"class": "input", "rows": rows}), **options)


def _time(label: str) -> forms.DateTimeField:
    widget = forms.DateTimeInput({"class": "input", "type": "datetime-local"}, "%Y-%m-%dT%H:%M")
    return forms.DateTimeField(label=label, widget=widget)


def status_choices(kind: str) -> list[tuple[str, str]]:
    return [(status.value, status.label) for status in STATUSES[kind]]


def component_choices(page: StatusPage) -> list[tuple[str, str]]:
    """Return the components of a page to choose from, in the order of the page."""
    nodes = ComponentTree.of(page.components.all()).walk()
    return [(node.component.component_id, node.component.name) for node in nodes]


class StatusPageForm(PageForm):
    """The settings of a page."""

    title = TextFormField("Title", placeholder="Example status")
    slug = TextFormField("Address", "input mono", help_text="/status/ADDRESS/", **VERBATIM)
    host_name = TextFormField(
        "Host name", "input mono", placeholder="status.example.com",
        help_text="Shows the page at the root of this name. Add the name to TELEMETRY_ALLOWED_HOSTS.", **VERBATIM,
    )  # fmt: skip
    text = _text_area("Text below the title")
    time_zone = TextFormField("Time zone", "input mono", help_text="Such as Europe/Berlin", **VERBATIM)

    def __init__(self, data: Any, page: StatusPage) -> None:
        super().__init__(data, initial=forms.model_to_dict(page))


class NewStatusPageForm(PageForm):
    """A new page: a title, and components of device groups."""

    title = TextFormField("Title", placeholder="Example status")
    groups = NamesFormField(
        label="Components from device groups",
        help_text="One component per group, with its name, which becomes public: you can change it before you publish.",
    )


class StatusComponentForm(PageForm):
    """A component: its public texts, the groups, rules and tags that measure it, and the rule for its state."""

    name = TextFormField("Name", help_text="Public")
    description = _text_area("Description", 2, help_text="Public")
    parent = OpenChoiceFormField("In group")
    device_groups = NamesFormField(label="Device groups")
    rule_ids = NamesFormField(label="Alert rules")
    tags = TextLinesFormField("Device tags", placeholder="One name=value per line; all must match")
    mode = TextFormField(widget=forms.RadioSelect(choices=StateMode.choices))
    partial_percent = IntegerFormField("Partial outage from (%)", inputmode="numeric")
    major_percent = IntegerFormField("Major outage from (%)", inputmode="numeric")

    def __init__(self, data: Any, component: StatusComponent, groups: Iterable[tuple[str, str]]) -> None:
        tags = [f"{name}={value}" for name, value in component.tags.items()]
        parent = component.parent.component_id if component.parent else ""
        super().__init__(data, initial=forms.model_to_dict(component) | {"tags": tags, "parent": parent})
        self.offer("parent", [("", "none"), *groups])
        self.component = component

    def clean(self) -> dict[str, Any]:
        values = dict(self.cleaned_data)
        pairs = [line.partition("=") for line in values.pop("tags", ())][: MAX_TAGS + 1]
        if any(not sign or not name for name, sign, _ in pairs):
            self.add_error("tags", "Enter one name=value per line.")
        values["tags"] = {name.strip(): value.strip() for name, _, value in pairs}
        for name in ("partial_percent", "major_percent"):
            if values.get(name) is None:
                values[name] = getattr(self.component, name)
        parent = values.pop("parent", "")
        values["parent"] = self.component.page.components.filter(component_id=parent).first() if parent else None
        return values


class IncidentForm(PageForm):
    """An incident or a maintenance. Times are in the time zone of the page."""

    title = TextFormField("Title")
    status = TextFormField(widget=forms.RadioSelect)
    impact = TextFormField(widget=forms.RadioSelect(choices=IMPACTS))
    starts_at = _time("From")
    ends_at = _time("until")
    components = NamesFormField(label="Affected components")
    text = _text_area("Message", 4)

    def __init__(self, data: Any, page: StatusPage, kind: str, initial: dict[str, Any]) -> None:
        super().__init__(data, initial=initial)
        self.page = page
        self.fields["status"].widget.choices = status_choices(kind)
        self.offer("components", component_choices(page))

    @classmethod
    def of_incident(cls, data: Any, incident: StatusIncident) -> "IncidentForm":
        """Return the form of a stored incident; its status changes with an update."""
        initial = forms.model_to_dict(incident, ["title", "status", "impact", "starts_at", "ends_at"])
        initial["components"] = [component.component_id for component in incident.components.all()]
        form = cls(data, incident.page, incident.kind, initial)
        for name in ("status", "text"):
            del form.fields[name]
        return form

    def clean(self) -> dict[str, Any]:
        values = dict(self.cleaned_data)
        for name in ("starts_at", "ends_at"):
            values[name] = self._in_utc(name)
        chosen = values.get("components", ())
        values["components"] = list(self.page.components.filter(component_id__in=chosen))
        return values

    def _in_utc(self, name: str) -> datetime | None:
        at = self.cleaned_data.get(name)
        if at is None:
            return None
        try:
            return at.replace(tzinfo=get_current_timezone()).astimezone(UTC)
        except OverflowError:
            self.add_error(name, "Enter a valid date and time.")
            return None


class UpdateForm(PageForm):
    """An update of an incident."""

    status = TextFormField(widget=forms.RadioSelect)
    text = _text_area("Message", 4)

    def __init__(self, data: Any, incident: StatusIncident) -> None:
        super().__init__(data, initial={"status": incident.status})
        self.fields["status"].widget.choices = status_choices(incident.kind)


class TemplateForm(PageForm):
    """A template of incidents or maintenance."""

    name = TextFormField("Name of the template")
    kind = TextFormField(widget=forms.RadioSelect(choices=IncidentKind.choices), initial=IncidentKind.INCIDENT)
    title = TextFormField("Title")
    impact = TextFormField(widget=forms.RadioSelect(choices=IMPACTS), initial=Impact.MINOR)
    text = _text_area("Message", 4)

    def clean(self) -> dict[str, Any]:
        values = dict(self.cleaned_data)
        if values.get("kind") == IncidentKind.MAINTENANCE:
            values["impact"] = Impact.MAINTENANCE
        if values.get("kind") in STATUSES:
            values["status"] = STATUSES[values["kind"]][0]
        return values
