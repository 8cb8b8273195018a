"""The forms of channels and routes."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings

from alerts.models import Channel, ChannelKind, Level, Route
from dashboard.forms.fields import (
    VERBATIM,
    IntegerFormField,
    NamesFormField,
    OpenChoiceFormField,
    PageForm,
    TextFormField,
    TextLinesFormField,
    WeeklyFormField,
)

ESCALATION_STEPS = 3  # that the form has room for, or one more than the route has


class ChannelEditForm(PageForm):
    """A channel. Its URL and secret are never shown; empty inputs keep them."""

    name = TextFormField("Name")
    kind = TextFormField(widget=forms.RadioSelect(choices=ChannelKind.choices))
    url = TextFormField(
        "URL",
        "input mono",
        help_text="Stored secretly; not shown again.",
        inputmode="url",
        placeholder="https://…",
        **VERBATIM,
    )
    addresses = TextLinesFormField("Email addresses", "input", rows=3, placeholder="One address per line")
    action = OpenChoiceFormField("Action")
    secret = TextFormField(
        "Signing secret",
        widget=forms.PasswordInput({"class": "input mono", "autocomplete": "new-password", "placeholder": "none"}),
    )
    no_secret = forms.BooleanField(label="Remove the signing secret")
    gather_seconds = IntegerFormField(
        "Group notifications for (s)",
        help_text="After a notification, further ones wait this long and are sent together. 0 sends each at once.",
        inputmode="numeric",
    )
    send_resolved = forms.BooleanField(label="Also notify when resolved")
    enabled = forms.BooleanField(label="Enabled")

    def __init__(self, data: Any, channel: Channel, destination: str) -> None:
        super().__init__(data, initial=forms.model_to_dict(channel, exclude=("url", "secret")))
        self.channel = channel
        self.offer("action", sorted(settings.ALERT_ACTIONS))
        if channel.pk and destination:
            self.fields["url"].widget.attrs["placeholder"] = f"unchanged: {destination}…"
        if channel.secret:
            self.fields["secret"].widget.attrs["placeholder"] = "unchanged"

    def clean(self) -> dict[str, Any]:
        """Return the fields of the channel that its kind has."""
        values, channel = self.cleaned_data, self.channel
        if self.errors:
            return values
        kind = values["kind"]
        url = values["url"] or (channel.url if kind == channel.kind else "")
        secret = values["secret"] or ("" if values["no_secret"] else channel.secret)
        return values | {
            "url": url if kind in (ChannelKind.WEBHOOK, ChannelKind.APPRISE) else "",
            "addresses": values["addresses"] if kind == ChannelKind.EMAIL else [],
            "action": values["action"] if kind == ChannelKind.ACTION else "",
            "secret": secret if kind == ChannelKind.WEBHOOK else "",
            "gather_seconds": values["gather_seconds"] or 0,
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

    def to_python(self, value: Any) -> list[dict[str, Any]]:
        minutes = forms.IntegerField(error_messages={"invalid": "Enter a whole number of minutes."})
        steps = [step for step in value or () if step["after_minutes"]]
        return [step | {"after_minutes": minutes.clean(step["after_minutes"])} for step in steps]


class RouteEditForm(PageForm):
    """A route."""

    name = TextFormField("Name")
    levels = NamesFormField(label="Levels", choices=Level.choices, help_text="None selected: every level.")
    device_groups = NamesFormField(label="Groups", help_text="None selected: every device.")
    weekly = WeeklyFormField(label="Recurring window")
    channels = NamesFormField(label="Notify")
    repeat_minutes = IntegerFormField(
        "Repeat every (minutes)",
        help_text="Until the alert is acknowledged.",
        inputmode="numeric",
        placeholder="never",
    )
    escalation = EscalationFormField(label="Escalation")
    enabled = forms.BooleanField(label="Enabled")

    def __init__(self, data: Any, route: Route, groups: Sequence[str], channels: Sequence[str]) -> None:
        super().__init__(data, initial=forms.model_to_dict(route))
        self.offer("device_groups", groups)
        self.offer("channels", channels)
        self.channel_names = channels

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The escalation steps with the names to choose from, and empty ones to fill in."""
        steps = list(self["escalation"].value() or ())
        empty = [{"after_minutes": "", "channels": []}] * max(1, ESCALATION_STEPS - len(steps))
        chosen = [name for step in steps for name in step["channels"]]
        names = list(dict.fromkeys([*self.channel_names, *self["channels"].value(), *chosen]))
        return [step | {"names": names} for step in [*steps, *empty]]
