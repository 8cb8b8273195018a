"""The periodic task of a worker for status pages, every few seconds."""

from datetime import datetime, timedelta

from django.db import connection, transaction
from django.utils import timezone

from dashboard.status_page import deliveries, incidents, static_file, subscriptions
from dashboard.status_page.history import record_gaps, refresh_history
from dashboard.status_page.models import StatusPage
from dashboard.status_page.snapshot import build_snapshot
from metrics.storage.locks import lock_status_page

DELIVERY_RETENTION = timedelta(days=30)


def refresh(now: datetime | None = None) -> int:
    """Start and end maintenance, compute past days and write the files; return the number of published pages.

    Several workers may do it at the same time: each page is computed by one of them.
    """
    now = now or timezone.now()
    incidents.run_maintenances(now)
    pages = list(StatusPage.objects.all())
    for page in pages:
        with transaction.atomic():
            if lock_status_page(connection.connection, page.pk):
                record_gaps(page, now)
                refresh_history(page, now)
    published = [page for page in pages if page.published]
    static_file.write_files(build_snapshot(page, now) for page in published)
    return len(published)


def delete_old(now: datetime | None = None) -> int:
    """Delete old deliveries and unconfirmed addresses; return the number of deleted rows."""
    now = now or timezone.now()
    return deliveries.delete_finished(now - DELIVERY_RETENTION) + subscriptions.delete_unconfirmed(now)
