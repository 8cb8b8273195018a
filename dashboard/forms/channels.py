"""The forms of channels and routes."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings

from alerts.models import Channel, ChannelKind, Level, Route
from alerts.notifications import channel_lifecycle
from dashboard.forms.fields import (
    VERBATIM,
    NamesFormField,
    PageForm,
    TextFormField,
    TextLinesFormField,
    WeeklyFormField,
    select,
    text_input,
)

ESCALATION_STEPS = 3  # that the form has room for, or one more than the route has
LEVELS = [(level, Level(level).label) for level in Level.values]


class ChannelEditForm(PageForm):
    """A channel. Its URL and secret are never shown; empty inputs keep them."""

    name = TextFormField(label="Name")
    kind = TextFormField(widget=forms.RadioSelect(choices=ChannelKind.choices))
    url = TextFormField(
        label="URL",
        help_text="Stored secretly; not shown again.",
        widget=text_input("input mono", inputmode="url", placeholder="https://…", **VERBATIM),
    )
    addresses = TextLinesFormField(
        rows=3, label="Email addresses", attributes={"class": "input", "placeholder": "One address per line"}
    )
    action = TextFormField(label="Action")
    secret = TextFormField(
        label="Signing secret",
        widget=forms.PasswordInput({"class": "input mono", "autocomplete": "new-password", "placeholder": "none"}),
    )
    no_secret = forms.BooleanField(required=False, label="Remove the signing secret")
    gather_seconds = forms.IntegerField(
        required=False,
        label="Group notifications for (s)",
        help_text="After a notification, further ones wait this long and are sent together. 0 sends each at once.",
        widget=text_input(inputmode="numeric"),
    )
    send_resolved = forms.BooleanField(required=False, label="Also notify when resolved")
    enabled = forms.BooleanField(required=False, label="Enabled")

    def __init__(self, data: Any, channel: Channel, destination: str) -> None:
        shown = [name for name in channel_lifecycle.CHANNEL_FIELDS if name not in ("url", "secret")]
        super().__init__(data, initial={name: getattr(channel, name) for name in shown})
        self.channel = channel
        self.fields["action"].widget = select("Action", [(name, name) for name in sorted(settings.ALERT_ACTIONS)])
        if channel.pk and destination:
            self.fields["url"].widget.attrs["placeholder"] = f"unchanged: {destination}…"
        if channel.secret:
            self.fields["secret"].widget.attrs["placeholder"] = "unchanged"

    def clean(self) -> dict[str, Any]:
        """Return the fields of the channel that its kind has."""
        values, channel = self.cleaned_data, self.channel
        kind = values.get("kind", "")
        has_url = kind in (ChannelKind.WEBHOOK, ChannelKind.APPRISE)
        kept_url = channel.url if has_url and kind == channel.kind else ""
        kept_secret = "" if values.get("no_secret") else channel.secret
        return {
            "name": values.get("name", ""),
            "kind": kind,
            "url": values.get("url") or kept_url if has_url else "",
            "addresses": values.get("addresses", []) if kind == ChannelKind.EMAIL else [],
            "action": values.get("action", "") if kind == ChannelKind.ACTION else "",
            "secret": values.get("secret") or kept_secret if kind == ChannelKind.WEBHOOK else "",
            "enabled": values.get("enabled", False),
            "gather_seconds": values.get("gather_seconds") or 0,
            "send_resolved": values.get("send_resolved", False),
        }


class EscalationWidget(forms.Widget):
    """Escalation steps, posted as a list `after_minutes` and the channels of each step as `step_0`, `step_1`, …."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, Any]]:
        return [
            {"after_minutes": minutes.strip(), "channels": data.getlist(f"step_{number}")}
            for number, minutes in enumerate(data.getlist("after_minutes"))
        ]


class EscalationFormField(forms.Field):
    """Escalation steps; those without minutes are left out."""

    widget = EscalationWidget

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, **options)

    def to_python(self, value: Any) -> list[dict[str, Any]]:
        minutes = forms.IntegerField(error_messages={"invalid": "Enter a whole number of minutes."})
        steps = [step for step in value or () if step["after_minutes"]]
        return [step | {"after_minutes": minutes.clean(step["after_minutes"])} for step in steps]


class RouteEditForm(PageForm):
    """A route."""

    name = TextFormField(label="Name")
    levels = NamesFormField(label="Levels", choices=LEVELS, help_text="None selected: every level.")
    device_groups = NamesFormField(label="Groups", help_text="None selected: every device.")
    weekly = WeeklyFormField(label="Recurring window")
    channels = NamesFormField(label="Notify")
    repeat_minutes = forms.IntegerField(
        required=False,
        label="Repeat every (minutes)",
        help_text="Until the alert is acknowledged.",
        widget=text_input(inputmode="numeric", placeholder="never"),
    )
    escalation = EscalationFormField(label="Escalation")
    enabled = forms.BooleanField(required=False, label="Enabled")

    def __init__(self, data: Any, route: Route, groups: Sequence[str], channels: Sequence[str]) -> None:
        super().__init__(data, initial={name: getattr(route, name) for name in channel_lifecycle.ROUTE_FIELDS})
        self.offer("device_groups", [(name, name) for name in groups])
        self.offer("channels", [(name, name) for name in channels])
        self.channel_names = list(channels)

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The escalation steps with the names to choose from, and empty ones to fill in."""
        steps = list(self["escalation"].value() or ())
        empty = [{"after_minutes": "", "channels": []}] * max(1, ESCALATION_STEPS - len(steps))
        chosen = [name for step in steps for name in step["channels"]]
        names = list(dict.fromkeys([*self.channel_names, *self["channels"].value(), *chosen]))
        return [step | {"names": names} for step in [*steps, *empty]]
