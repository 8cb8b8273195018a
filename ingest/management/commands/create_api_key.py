"""`manage.py create_api_key NAME --scope ingest`: create an API key and print it."""

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ingest.models import ApiKey
from ingest.wire.validate import InvalidPoint, check_name
from metrics.models import Device, DeviceGroup
from rest.caller import Scope
from rest.names import id_error, name_error

MAX_LIFETIME_DAYS = 36_500


class Command(BaseCommand):
    help = "Create an API key and print only the key. It cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="name of the key")
        parser.add_argument("--scope", required=True, choices=Scope.values, help="rights of the key")
        parser.add_argument(
            "--device", metavar="ID", help="restrict the key to this device, which is created if needed"
        )
        parser.add_argument("--group", metavar="NAME", help="restrict the key to the devices of this group")
        parser.add_argument(
            "--expires-days", metavar="DAYS", type=int, help="days until the key expires (default: never)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            name = check_name(options["name"], "NAME")
            device_id = options["device"] if options["device"] is None else check_name(options["device"], "--device")
        except InvalidPoint as error:
            raise CommandError(f"{error.field}: {error.detail}", returncode=2) from None
        is_new = device_id is not None and not Device.objects.filter(device_id=device_id).exists()
        reason = name_error(name) or (id_error(device_id or "") if is_new else None)
        if reason is not None:
            raise CommandError(reason, returncode=2)
        group, expires_at = self.group(options["group"], device_id), self.expiry(options["expires_days"])
        device = None if device_id is None else Device.objects.get_or_create(device_id=device_id)[0]
        _, key = ApiKey.issue(name, options["scope"], device, group=group, expires_at=expires_at)
        self.stdout.write(key)

    def group(self, name: str | None, device_id: str | None) -> DeviceGroup | None:
        if name is None:
            return None
        if device_id is not None:
            raise CommandError("--group: a key is for a device or for a group, not both", returncode=2)
        group = DeviceGroup.objects.filter(name=name).first()
        if group is None:
            raise CommandError(f"--group: group {name!r:.80} does not exist", returncode=2)
        return group

    def expiry(self, days: int | None) -> datetime | None:
        if days is None:
            return None
        if not 1 <= days <= MAX_LIFETIME_DAYS:
            raise CommandError(f"--expires-days must be 1 to {MAX_LIFETIME_DAYS}", returncode=2)
        return timezone.now() + timedelta(days=days)
