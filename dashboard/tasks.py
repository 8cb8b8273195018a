"""Celery tasks of this app. Each may run twice at the same time and may be killed at any time."""

from celery import shared_task

from dashboard.streams import subscriptions, tickets


@shared_task
def delete_expired_subscriptions() -> int:
    """Delete expired subscriptions and tickets; return the number of deleted rows."""
    return subscriptions.delete_expired() + tickets.delete_expired()
