"""Markup that many templates repeat: icons, times and the options of a select."""

import re
import shlex
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import template
from django.utils.dateformat import format as format_date
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import localtime, now

from alerts.models import Delivery
from alerts.notifications.retry_queue import is_retried, status_parts
from dashboard.alert_rows import cover_text, display_name
from dashboard.rule_words import sentence, weekly_text
from metrics.value_text import duration_text, kind_of, reading, with_unit

MAX_ERROR_LENGTH = 200

register = template.Library()
for function in (cover_text, display_name, kind_of, reading, sentence, weekly_text, with_unit):
    register.filter(function)


@register.simple_tag(takes_context=True)
def current(context: dict[str, Any], name: str) -> SafeString:
    """Return the attribute that marks the menu's entry of the page, or of the page's section."""
    request = context["request"]
    if request.resolver_match and request.resolver_match.url_name == name:
        return SafeString('aria-current="page"')
    return SafeString('aria-current="true"' if request.path.split("/")[1] == name else "")


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """Return an icon of `_icons.html`; size "s" is the small one."""
    css_class = f"i {size}".rstrip()
    return format_html('<svg class="{}" aria-hidden="true"><use href="#i-{}"/></svg>', css_class, name)


@register.simple_tag
def state_sign(name: str) -> SafeString:
    """Return the sign of a device state or of a delivery: ok, late, offline, never or paused."""
    return format_html('<svg viewBox="0 0 16 16" aria-hidden="true"><use href="#d-{}"/></svg>', name)


@register.simple_tag
def level_sign(name: str) -> SafeString:
    """Return the sign of an alert level, or of a resolved alert."""
    return format_html('<svg viewBox="0 0 20 20" aria-hidden="true"><use href="#l-{}"/></svg>', name)


@register.filter
def words(name: str) -> str:
    """Return a name of the API in words: "Recurring hour" of "recurring_hour"."""
    return name.replace("_", " ").capitalize()


@register.filter
def shell_word(text: str) -> str:
    """Return a text as one word of a shell command."""
    return shlex.quote(text)


@register.filter
def breakable(name: str) -> SafeString:
    """Return the name of a metric with the places where a line may break."""
    return format_html_join("", "{}<wbr>", ((part,) for part in re.split(r"(?<=[_./-])", name)))


@register.simple_tag
def delivery_status(delivery: Delivery) -> SafeString:
    """Return the status of a delivery: "Retrying (HTTP 500, attempt 7 of 10, next 20:05)"."""
    name, details = status_parts(delivery)
    parts = [format_html("{}", detail[:MAX_ERROR_LENGTH]) for detail in details]
    if is_retried(delivery):
        due_at = localtime(delivery.due_at)
        parts.append(format_html('next <time datetime="{}">{}</time>', due_at.isoformat(), f"{due_at:%H:%M}"))
    return (
        format_html("{} ({})", name, format_html_join(", ", "{}", ((part,) for part in parts)))
        if parts
        else escape(name)
    )


@register.filter
def duration(start: datetime, end: datetime | None = None) -> str:
    """Return the time between two moments; the second one is now by default."""
    return duration_text(((end or now()) - start).total_seconds())


@register.simple_tag
def age(at: datetime | None) -> SafeString:
    """Return how long ago something happened; a script counts it up."""
    if at is None:
        return SafeString("<span data-age>never</span>")
    return format_html('<time datetime="{}" data-age>{}</time>', localtime(at).isoformat(), duration(at))


@register.simple_tag
def moment(at: datetime, pattern: str = "j M H:i") -> SafeString:
    """Return a date and time in the time zone of the page."""
    local = localtime(at)
    title = format_date(local, "j M Y, H:i:s")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', local.isoformat(), title, format_date(local, pattern)
    )


@register.simple_tag
def options(choices: Iterable[tuple[Any, str]], selected: Any = None) -> SafeString:
    """Return the <option> elements of (value, label) pairs."""
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        ((value, SafeString(" selected") if value == selected else "", label) for value, label in choices),
    )


@register.simple_tag
def radio_labels(name: str, choices: Iterable[tuple[Any, str]], checked: Any = None) -> SafeString:
    """Return a labelled radio button for each (value, label) pair."""
    return format_html_join(
        "",
        '<label><input type="radio" name="{}" value="{}"{}>{}</label>',
        ((name, value, SafeString(" checked") if value == checked else "", label) for value, label in choices),
    )
