"""Markup that many templates repeat: icons, times and the options of a select."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import template
from django.utils.dateformat import format as format_date
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

register = template.Library()


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


@register.simple_tag
def age(at: datetime | None, text: str) -> SafeString:
    """Return how long ago something happened; a script counts it up."""
    if at is None:
        return format_html("<span data-age>{}</span>", "never")
    return format_html('<time datetime="{}" data-age>{}</time>', localtime(at).isoformat(), text)


@register.simple_tag
def moment(at: datetime, pattern: str = "j M H:i") -> SafeString:
    """Return a date and time; a script writes it in the reader's time zone."""
    local = localtime(at)
    return format_html('<time datetime="{}" data-moment>{}</time>', local.isoformat(), format_date(local, pattern))


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
