"""`manage.py apply FILE`: rules, channels, routes and silences as a file says them."""

import os
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from alerts.rules.as_code.apply import apply
from alerts.rules.as_code.diff import lines, summary
from alerts.rules.as_code.yaml_reader import MOST_BYTES, BadFile

DIFFERENT = 1  # exit codes, as diff has them; a dry run alone tells of differences
REFUSED = 2


class Command(BaseCommand):
    help = (
        "Make rules, channels, routes and silences what a YAML file says, all or nothing. Exit code 0: they are;"
        " 1: a dry run has found differences; 2: nothing was changed, since the file has faults."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="YAML, as export_rules writes it; - for standard input")
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")
        parser.add_argument(
            "--prune", action="store_true", help="delete what the file does not name, of the sections that it has"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run = options["dry_run"]
        try:
            plan = apply(_read(options["file"]), os.environ, prune=options["prune"], dry_run=dry_run)
        except BadFile as error:
            for fault in error.faults:
                self.stderr.write(str(fault))
            raise CommandError(f"{len(error.faults)} faults; nothing was changed", returncode=REFUSED) from None
        except (DatabaseError, ObjectDoesNotExist) as error:
            why = " ".join(str(error).split())
            raise CommandError(f"nothing was changed, apply it again: {why}", returncode=REFUSED) from None
        for line in lines(plan):
            self.stdout.write(line)
        self.stdout.write(summary(plan, done=not dry_run))
        if dry_run and plan.changes:
            sys.exit(DIFFERENT)


def _read(name: str) -> bytes:
    """Up to one byte more than is accepted, whatever is there."""
    if name == "-":
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    try:
        with Path(name).open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}", returncode=REFUSED) from None
