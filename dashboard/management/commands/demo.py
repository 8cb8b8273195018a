"""`manage.py demo`: fill the site with a demo data set, keep it alive, or delete it."""

import time
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from alerts.models import OPEN_STATUSES, Alert
from dashboard.demo import content
from dashboard.demo.incidents import Incidents
from dashboard.demo.install import CALLER, DemoConflict, InstallResult, install, save_progress
from dashboard.demo.points import follow
from dashboard.demo.remove import remove
from ingest.management.commands.load import check_database
from metrics.error_responses import EXPECTED_ERRORS
from metrics.storage.write.group_commit import stop_writer


class Command(BaseCommand):
    help = (
        f"Fill the site with a demo data set: {content.DEVICE_COUNT} simulated devices in groups, a week of history,"
        " alert rules, alerts and silences. Running it again changes nothing. --remove deletes it."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        action = parser.add_mutually_exclusive_group()
        action.add_argument("--remove", action="store_true", help="delete the demo data set")
        action.add_argument(
            "--follow", action="store_true", help="then keep the devices sending until Ctrl-C, also after a pause"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        check_database()
        try:
            if options["remove"]:
                self._remove()
                return
            result = self._install()
            if options["follow"]:
                self._follow(result)
        except DemoConflict as error:
            raise CommandError(f"nothing was changed: {error}") from None
        except (*EXPECTED_ERRORS, OperationalError) as error:
            reason = " ".join(str(error).split())
            raise CommandError(f"{reason}; run the same command again to continue") from None
        except KeyboardInterrupt:
            raise CommandError("stopped; run the same command again to continue", returncode=130) from None
        finally:
            stop_writer()

    def _install(self) -> InstallResult:
        started = time.monotonic()
        result = install(lambda step: self.stdout.write(f"{step} …"))
        if not result.is_new:
            self.stdout.write("The demo data set exists; nothing was changed.")
            return result
        alerts = Alert.objects.filter(rule__rule_id__startswith=content.PREFIX)
        open_count = alerts.filter(status__in=OPEN_STATUSES).count()
        self.stdout.write(
            f"{content.DEVICE_COUNT} devices in {len(content.group_names())} groups, {result.points:,} points,"
            f" {len(content.rules())} rules, {open_count} open and {alerts.count() - open_count} resolved alerts"
            f" ({time.monotonic() - started:.0f} s)"
        )
        if not result.is_evaluated:
            self.stdout.write("The worker still evaluates the rules; more alerts follow.")
        self.stdout.write("`manage.py demo --follow` keeps the devices sending, `manage.py demo --remove` deletes all.")
        return result

    def _follow(self, result: InstallResult) -> None:
        self.stdout.write(
            f"The devices send from {datetime.fromtimestamp(result.sent_until / 1000, UTC):%Y-%m-%d %H:%M} UTC on."
        )
        self.stdout.write("Ctrl-C stops them.")
        try:
            for sent_until in follow(result.sent_until, Incidents.until(result.until), CALLER):
                save_progress(sent_until)
        except KeyboardInterrupt:
            self.stdout.write("The devices are stopped.")

    def _remove(self) -> None:
        result = remove()
        if not (result.devices or result.rules or result.alerts or result.definitions):
            self.stdout.write("There is no demo data set; nothing was changed.")
            return
        self.stdout.write(
            f"{result.devices} devices, {result.rules} rules and {result.alerts} alerts of the demo are deleted;"
            " workers delete the stored points in the background"
        )
        if result.kept_definitions:
            names = ", ".join(result.kept_definitions)
            self.stdout.write(f"definitions that other devices use are kept: {names}")
