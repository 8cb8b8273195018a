"""`manage.py service_token NAME`: a token of a configured service, good for one request within a minute."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingest.identity import service_tokens


class Command(BaseCommand):
    help = "Print a token of a service, alone, on standard output: for one request, within a minute."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="a service that TELEMETRY_SERVICE_SECRETS names")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["name"] not in settings.SERVICES:
            known = ", ".join(sorted(settings.SERVICES)) or "none"
            raise CommandError(f"NAME: TELEMETRY_SERVICE_SECRETS names {known}", returncode=2)
        self.stdout.write(service_tokens.make(options["name"]))
