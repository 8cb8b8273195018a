"""Signs and times of the public status pages, in the time zone of the page."""

from datetime import datetime
from zoneinfo import ZoneInfo

from django import template
from django.utils.dateformat import format as format_date
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard.status_page import markup
from dashboard.status_page.snapshot import PublicIncident
from dashboard.templatetags.markup import words

register = template.Library()
register.filter(words)

DATE_AND_TIME = "j M Y, H:i"


@register.simple_tag
def incident_sign(incident: PublicIncident) -> SafeString:
    """Return the status of an incident with the sign of its impact; of an ended one with that of success."""
    state = incident.state if incident.is_open else markup.PublicState.OPERATIONAL
    return markup.sign(state, incident.status_label)


@register.simple_tag
def incident_times(incident: PublicIncident, zone: ZoneInfo) -> SafeString:
    """Return since when or from when until when."""
    start = local_time(incident.starts_at, zone)
    end = incident.closed_at if not incident.is_open and not incident.is_maintenance else incident.ends_at
    if end is not None:
        return format_html("{} to {}.", start, local_time(end, zone))
    return format_html("Since {}.", start)


@register.simple_tag
def local_time(at: datetime, zone: ZoneInfo, pattern: str = DATE_AND_TIME) -> SafeString:
    """Return a time in the time zone of the page."""
    local = at.astimezone(zone)
    return format_html('<time datetime="{}">{}</time>', local.isoformat(), format_date(local, pattern))


@register.simple_tag
def plain_time(at: datetime, zone: ZoneInfo) -> str:
    """Return a time with the name of its zone, for mails."""
    local = at.astimezone(zone)
    return f"{format_date(local, DATE_AND_TIME)} {local:%Z}"
