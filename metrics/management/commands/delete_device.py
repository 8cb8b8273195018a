"""`manage.py delete_device ID`: delete a device with all its measurements."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from metrics.devices.delete_device import delete_device
from rest.caller import Caller
from rest.errors import NotFound


class Command(BaseCommand):
    help = "Delete a device with all its measurements. Workers delete the stored points in the background."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("device_id")
        parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")

    def handle(self, *args: Any, **options: Any) -> None:
        device_id = options["device_id"]
        if not options["yes"] and input(f"Delete {device_id} with all its measurements? [y/N] ").lower() != "y":
            raise CommandError("nothing was deleted")
        try:
            deletion = delete_device(device_id, Caller.internal("manage.py delete_device"))
        except NotFound as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{device_id} is deleted; {deletion.deletion_id} deletes its stored points in the background")
