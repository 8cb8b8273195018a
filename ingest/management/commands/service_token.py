"""`manage.py service_token NAME`: print a token of a configured service, valid for one request within a minute."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingest.identity import service_tokens


class Command(BaseCommand):
    help = "Print only a token of a service, valid for one request within a minute."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="name of a service in TELEMETRY_SERVICE_SECRETS")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["name"] not in settings.SERVICES:
            services = ", ".join(sorted(settings.SERVICES)) or "none"
            raise CommandError(f"NAME must be a service of TELEMETRY_SERVICE_SECRETS: {services}", returncode=2)
        self.stdout.write(service_tokens.make(options["name"]))
