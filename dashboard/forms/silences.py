"""The form that creates a silence."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.timezone import get_current_timezone

from alerts import silences
from alerts.models import Level, SilenceKind
from dashboard.forms.fields import (
    NamesFormField,
    PageForm,
    TextFormField,
    TextLinesFormField,
    WeeklyFormField,
)

UNTIL = 0  # the choice to enter an end time instead of a duration
DURATIONS = (
    (3600, "1 h"), (4 * 3600, "4 h"), (86_400, "1 day"), (7 * 86_400, "7 days"), (UNTIL, "until …")
)  # fmt: skip
TARGETS = {"device_ids": "device", "device_groups": "group", "rule_ids": "rule", "metric_names": "metric"}


def _local_time(label: str) -> forms.DateTimeField:
    widget = forms.DateTimeInput({"class": "input", "type": "datetime-local"}, "%Y-%m-%dT%H:%M")
    return forms.DateTimeField(label=label, widget=widget)


class SilenceCreateForm(PageForm):
    """A silence or a maintenance window. Times are in the time zone of the page."""

    kind = TextFormField(widget=forms.RadioSelect(choices=SilenceKind.choices), initial=SilenceKind.SILENCE)
    device_ids = TextLinesFormField("Devices", placeholder="One device ID per line")
    device_groups = NamesFormField(label="Groups")
    rule_ids = NamesFormField(label="Rules")
    levels = NamesFormField(label="Levels", choices=Level.choices)
    metric_names = TextLinesFormField("Metrics", placeholder="One metric per line")
    lasting = forms.TypedChoiceField(
        choices=DURATIONS, coerce=int, empty_value=None, widget=forms.RadioSelect, initial=3600
    )
    starts_at = _local_time("From")
    ends_at = _local_time("until")
    weekly = WeeklyFormField()
    reason = TextFormField("Reason", placeholder="Shown to everybody who sees the silence")

    def __init__(self, data: QueryDict | None, query: QueryDict, now: datetime) -> None:
        """`?device=…`, `?group=…`, `?rule=…` and `?metric=…` of a link fill the form in."""
        targets = {name: [value.replace("\0", "") for value in query.getlist(key)] for name, key in TARGETS.items()}
        super().__init__(data, initial=targets)
        self.now = now

    def clean(self) -> dict[str, Any]:
        """Return the fields of the silence, with times in UTC."""
        values = self.cleaned_data
        if not any(values.get(name) or name in self.errors for name in silences.MATCHER_FIELDS):
            self.add_error("device_ids", "Choose at least one device, group, metric, rule or level.")
        if not values.get("reason") and "reason" not in self.errors:
            self.add_error("reason", "Enter a reason.")
        starts_at = self._in_utc("starts_at") or self.now
        lasting = values.get("lasting")
        ends_at = starts_at + timedelta(seconds=lasting) if lasting else self._in_utc("ends_at")
        if ends_at is None and "ends_at" not in self.errors:
            self.add_error("ends_at", "Choose a duration or an end time.")
        fields = {name: values.get(name) for name in (*silences.MATCHER_FIELDS, "kind", "reason", "weekly")}
        return fields | {"starts_at": starts_at, "ends_at": ends_at}

    def _in_utc(self, name: str) -> datetime | None:
        """Return a time of the form, which is of the page's wall clock."""
        at = self.cleaned_data.get(name)
        if at is None:
            return None
        try:
            return at.replace(tzinfo=get_current_timezone()).astimezone(UTC)
        except OverflowError:
            self.add_error(name, "Enter a valid date and time.")
            return None
