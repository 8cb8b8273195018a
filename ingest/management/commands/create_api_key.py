"""`manage.py create_api_key NAME --scope ingest`: a key, whose text is shown this once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingest.models import ApiKey
from ingest.wire.judge import BadPoint, check_name
from metrics.access import Scope
from metrics.models import Device


class Command(BaseCommand):
    help = "Create an API key and print it, alone, on standard output. It cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what people call the key")
        parser.add_argument("--scope", required=True, choices=Scope.values, help="what the key may do")
        parser.add_argument("--device", metavar="ID", help="the only device that it is for; made where it is unknown")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            name = check_name(options["name"], "NAME")
            device_id = options["device"] if options["device"] is None else check_name(options["device"], "--device")
        except BadPoint as bad:
            raise CommandError(f"{bad.field}: {bad.detail}", returncode=2) from None
        device = None if device_id is None else Device.objects.get_or_create(device_id=device_id)[0]
        _, key = ApiKey.issue(name, options["scope"], device)
        self.stdout.write(key)
