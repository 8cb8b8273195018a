"""The events in the outbox, as subscribers receive their data."""

from typing import Any

from metrics.models import Event


def recorded_events(prefix: str = "") -> list[tuple[str, str, dict[str, Any]]]:
    """Return (type, subject, data) of each stored event whose type begins so, in order."""
    rows = Event.objects.filter(type__startswith=prefix).order_by("id")
    return list(rows.values_list("type", "subject", "data"))


def forget_events() -> None:
    """Delete the events of a test's preparation."""
    Event.objects.all().delete()
