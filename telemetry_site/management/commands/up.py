"""`manage.py up`, for those who ask `manage.py help`; the command line goes past Django (see manage.py)."""

import sys
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Starts the whole site: servers (unless DATABASE_URL and REDIS_URL name others), web, worker and beat."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        from telemetry_site.up import main

        sys.exit(main())
