"""`manage.py export_rules`: rules, channels, routes and silences as a file that `manage.py apply` takes."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from alerts.rules.as_code.export import export


class Command(BaseCommand):
    help = "Write rules, channels, routes and silences as YAML, to be kept under version control and applied."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--with-secrets", action="store_true", help="channels with their addresses and secrets in clear"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(export(options["with_secrets"]), ending="")
