"""`manage.py create_api_key NAME --scope ingest`: a key, whose text is shown this once."""

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ingest.models import ApiKey
from ingest.wire.validate import BadPoint, check_name
from metrics.models import Device, DeviceGroup
from rest.caller import Scope

LONGEST_LIFE_DAYS = 36_500


class Command(BaseCommand):
    help = "Create an API key and print it, alone, on standard output. It cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what people call the key")
        parser.add_argument("--scope", required=True, choices=Scope.values, help="what the key may do")
        parser.add_argument("--device", metavar="ID", help="the only device that it is for; made where it is unknown")
        parser.add_argument("--group", metavar="NAME", help="the group whose devices alone it is for")
        parser.add_argument("--expires-days", metavar="DAYS", type=int, help="how long it is good; for ever without")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            name = check_name(options["name"], "NAME")
            device_id = options["device"] if options["device"] is None else check_name(options["device"], "--device")
        except BadPoint as bad:
            raise CommandError(f"{bad.field}: {bad.detail}", returncode=2) from None
        group, ends = self.group(options["group"], device_id), self.ends(options["expires_days"])
        device = None if device_id is None else Device.objects.get_or_create(device_id=device_id)[0]
        _, key = ApiKey.issue(name, options["scope"], device, group=group, expires_at=ends)
        self.stdout.write(key)

    def group(self, name: str | None, device_id: str | None) -> DeviceGroup | None:
        if name is None:
            return None
        if device_id is not None:
            raise CommandError("--group: a key is for a device or for a group, not for both", returncode=2)
        found = DeviceGroup.objects.filter(name=name).first()
        if found is None:
            raise CommandError(f"--group: there is no group {name!r:.80}", returncode=2)
        return found

    def ends(self, days: int | None) -> datetime | None:
        if days is None:
            return None
        if not 1 <= days <= LONGEST_LIFE_DAYS:
            raise CommandError(f"--expires-days: 1 to {LONGEST_LIFE_DAYS} are accepted", returncode=2)
        return timezone.now() + timedelta(days=days)
