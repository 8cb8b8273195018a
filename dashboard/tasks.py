"""Celery tasks of this app. Each may run twice at the same time and may be killed at any time."""

from celery import shared_task

from dashboard.status_page import deliveries, refresh
from dashboard.streams import subscriptions, tickets


@shared_task
def delete_expired_subscriptions() -> int:
    """Delete expired subscriptions and tickets; return the number of deleted rows."""
    return subscriptions.delete_expired() + tickets.delete_expired()


@shared_task
def refresh_status_pages() -> int:
    """Start and end planned maintenance, compute past days and write the files; return the number of pages."""
    return refresh.refresh()


@shared_task
def send_status_messages() -> int:
    """Send the due messages to subscribers of status pages; return the number of attempts."""
    return deliveries.send_due()


@shared_task
def delete_old_status_messages() -> int:
    """Delete old messages and unconfirmed subscribers of status pages; return the number of deleted rows."""
    return refresh.delete_old()
