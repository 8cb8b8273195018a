"""`manage.py rotate_secrets`: encrypt the stored secrets with a new key."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from ingest.collection import encryption
from ingest.collection.models import Collector


class Command(BaseCommand):
    help = (
        "Encrypt the secrets of collectors with a new key. The key of the data folder is replaced, and its former key"
        " kept until the next rotation. With TELEMETRY_SECRETS_KEYS, put the new key first, keep the former one,"
        " restart all processes and run this command; then remove the former key."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.SECRETS_KEYS:
            encryption.add_key()
        rotated, unreadable = rotate_all()
        self.stdout.write(f"the secrets of {rotated} collectors are encrypted with the first key")
        if unreadable:
            raise CommandError(f"no key decrypts the secrets of {', '.join(unreadable)}: enter them again")


@transaction.atomic
def rotate_all() -> tuple[int, list[str]]:
    """Encrypt all secrets with the first key; return their number, and the collectors whose secrets are unreadable."""
    rotated, unreadable = 0, []
    for collector in Collector.objects.exclude(encrypted_secrets="").order_by("pk").select_for_update():
        try:
            collector.encrypted_secrets = encryption.rotate(collector.encrypted_secrets)
        except encryption.SecretsUnreadable:
            unreadable.append(collector.name)
        else:
            collector.save(update_fields=["encrypted_secrets"])
            rotated += 1
    return rotated, unreadable
