"""`manage.py apply FILE`: change rules, channels, routes, silences and collectors to match a file."""

import os
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from alerts.rules.as_code.apply import apply
from alerts.rules.as_code.diff import format_plan, format_summary
from alerts.rules.as_code.yaml_reader import MAX_FILE_BYTES, InvalidFile

# Exit codes, as those of diff.
HAS_CHANGES = 1  # of a dry run
FAILED = 2


class Command(BaseCommand):
    help = (
        "Change rules, channels, routes, silences and collectors to match a YAML file, all or nothing. Exit code 0:"
        " they match; 1: a dry run found changes; 2: the file has errors, nothing was changed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="YAML, as export_rules writes it; - for standard input")
        parser.add_argument("--dry-run", action="store_true", help="show the changes and make none")
        parser.add_argument(
            "--prune", action="store_true", help="delete objects that are not in the file, of its sections"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run = options["dry_run"]
        try:
            plan = apply(_read(options["file"]), os.environ, prune=options["prune"], dry_run=dry_run)
        except InvalidFile as error:
            for file_error in error.errors:
                self.stderr.write(str(file_error))
            raise CommandError(f"{len(error.errors)} errors; nothing was changed", returncode=FAILED) from None
        except (DatabaseError, ObjectDoesNotExist) as error:
            reason = " ".join(str(error).split())
            raise CommandError(f"nothing was changed, try again: {reason}", returncode=FAILED) from None
        for line in format_plan(plan):
            self.stdout.write(line)
        self.stdout.write(format_summary(plan, done=not dry_run))
        if dry_run and plan.changes:
            sys.exit(HAS_CHANGES)


def _read(name: str) -> bytes:
    """Read up to one byte more than the limit, so that a larger file is rejected."""
    if name == "-":
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}", returncode=FAILED) from None
