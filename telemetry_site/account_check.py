"""`python -m telemetry_site.account_check`: exit with 0 if the current account can run the site, else print the reason.

It loads the site's code, connects to the database and checks the files that web, worker and beat need.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import django
from django.conf import settings

MODULES = ("telemetry_site.asgi", "telemetry_site.celery", "telemetry_site.urls")


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")
    django.setup()
    for module in MODULES:
        import_module(module)
    from metrics.storage.connection import connect

    connect().close()
    for path, mode in needed_paths().items():
        if not os.access(path, mode):
            sys.exit(f"no access to {path}")


def needed_paths() -> dict[Path, int]:
    """Return the paths that the site uses, with the access that it needs."""
    paths = {settings.DATA_DIR: os.X_OK}
    if settings.REDIS_URL.startswith("unix:"):
        paths[Path(urlsplit(settings.REDIS_URL).path)] = os.R_OK | os.W_OK
    if not settings.EXPORTS_DIR.is_relative_to(settings.DATA_DIR):
        paths[settings.EXPORTS_DIR] = os.R_OK | os.W_OK | os.X_OK
    return paths


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
