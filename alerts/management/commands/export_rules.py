"""`manage.py export_rules`: write rules, channels, routes, silences and collectors as a file for `manage.py apply`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from alerts.rules.as_code.export import export


class Command(BaseCommand):
    help = "Write rules, channels, routes, silences and collectors as YAML, for version control and `manage.py apply`."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--with-secrets",
            action="store_true",
            help="write the addresses and secrets of channels and collectors instead of placeholders",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(export(options["with_secrets"]), ending="")
