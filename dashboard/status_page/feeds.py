"""Feeds of a page: Atom and RSS of the updates of incidents and maintenance, and a calendar of maintenance."""

from datetime import datetime, timedelta

from django.utils.feedgenerator import Atom1Feed, Rss201rev2Feed, SyndicationFeed
from icalendar import Calendar, Event

from dashboard.status_page.answers import Answer
from dashboard.status_page.snapshot import PageSnapshot, PublicIncident

MAX_ENTRIES = 50


class _DatedFeed(SyndicationFeed):
    """A feed without entries has the date of its page instead of the current time, so that its ETag is stable."""

    def latest_post_date(self) -> datetime:
        return max([self.feed["updated_at"], *(item["pubdate"] for item in self.items)])


class _AtomFeed(_DatedFeed, Atom1Feed):
    pass


class _RssFeed(_DatedFeed, Rss201rev2Feed):
    pass


FEEDS: dict[str, type[_AtomFeed] | type[_RssFeed]] = {"atom": _AtomFeed, "rss": _RssFeed}


def incident_url(url: str, incident: PublicIncident) -> str:
    return f"{url}incidents/{incident.id}/"


def render_feed(kind: str, snapshot: PageSnapshot, url: str) -> Answer:
    """Return the Atom or RSS feed; each update is an entry, the newest first."""
    feed = FEEDS[kind](
        title=snapshot.title,
        link=url,
        description=f"Incidents and maintenance of {snapshot.title}",
        feed_url=f"{url}feed.{kind}",
        feed_guid=f"urn:status:{snapshot.id}",
        updated_at=snapshot.updated_at,
    )
    entries = [
        (update, incident) for incident in (*snapshot.incidents, *snapshot.maintenances) for update in incident.updates
    ]
    entries.sort(key=lambda entry: entry[0].at, reverse=True)
    for update, incident in entries[:MAX_ENTRIES]:
        status = update.status.replace("_", " ").capitalize()
        feed.add_item(
            title=f"{incident.title}: {status.lower()}",
            link=incident_url(url, incident),
            description=update.text or status,
            unique_id=f"urn:status:{update.id}",
            unique_id_is_permalink=False,
            pubdate=update.at,
            updateddate=update.at,
            categories=[incident.kind],
        )
    return Answer.of(feed.writeString("utf-8").encode(), feed.content_type)


def render_calendar(snapshot: PageSnapshot, url: str) -> Answer:
    """Return the planned and past maintenance as a calendar (RFC 5545)."""
    calendar = Calendar()
    calendar.add("prodid", "-//Telemetry//Status page//EN")
    calendar.add("version", "2.0")
    calendar.add("name", snapshot.title)
    calendar.add("x-wr-calname", snapshot.title)
    for maintenance in snapshot.maintenances:
        event = Event()
        event.add("uid", maintenance.id)
        event.add("summary", maintenance.title)
        event.add("dtstamp", maintenance.updated_at)
        event.add("dtstart", maintenance.starts_at)
        event.add("dtend", maintenance.ends_at or maintenance.starts_at + timedelta(hours=1))
        event.add("url", incident_url(url, maintenance))
        event.add("last-modified", maintenance.updated_at)
        affected = ", ".join(maintenance.component_names)
        texts = [f"Affected: {affected}" if affected else "", *(update.text for update in maintenance.updates[:1])]
        event.add("description", "\n\n".join(text for text in texts if text))
        calendar.add_component(event)
    return Answer.of(calendar.to_ical(), "text/calendar; charset=utf-8")
