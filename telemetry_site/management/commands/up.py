"""`manage.py up` as listed by `manage.py help`; manage.py runs it without Django."""

import sys
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Start the whole site: web, worker, beat, and the servers unless DATABASE_URL and REDIS_URL are set."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        from telemetry_site.up import main

        sys.exit(main())
