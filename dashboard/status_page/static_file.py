"""Pages as files that need nothing else, for a proxy that serves them while the site is down.

Each file is replaced in one step, so that a reader sees the old or the new one as a whole.
"""

import os
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders

from dashboard.status_page.addresses import page_url
from dashboard.status_page.answers import COMPUTED_AT
from dashboard.status_page.public_views import render_page
from dashboard.status_page.snapshot import PageSnapshot

STYLE_SHEETS = ("dashboard/css/tokens.css", "dashboard/css/base.css", "dashboard/status/public.css")
INDEX = "index"


@cache
def style() -> str:
    """Return the style sheets of the public pages."""
    return "\n".join(Path(str(finders.find(name))).read_text() for name in STYLE_SHEETS)


def write_files(snapshots: Iterable[PageSnapshot], refresh_seconds: float = 60.0) -> int:
    """Write the file of each published page, the first one also as index.html; return how many were written.

    A file is written when its content has changed, and otherwise once a minute for the time that it shows. Files of
    other pages are deleted.
    """
    folder: Path = settings.STATUS_DIR
    folder.mkdir(parents=True, exist_ok=True)
    names: set[str] = set()
    written = 0
    for number, snapshot in enumerate(snapshots):
        for name in (snapshot.slug, INDEX) if number == 0 else (snapshot.slug,):
            names.add(f"{name}.html")
            written += _write(folder / f"{name}.html", snapshot, refresh_seconds)
    for path in folder.glob("*.html"):
        if path.name not in names:
            path.unlink(missing_ok=True)
    return written


def _write(path: Path, snapshot: PageSnapshot, refresh_seconds: float) -> bool:
    url = page_url(snapshot.slug, snapshot.host_name) or f"/status/{snapshot.slug}/"
    answer = render_page(snapshot, url, css=style())
    computed_at = snapshot.computed_at.astimezone(snapshot.zone)
    mark = f"\n<!-- {answer.etag} -->\n".encode()
    if _is_current(path, mark, snapshot.computed_at.timestamp() - refresh_seconds):
        return False
    body = answer.body.replace(COMPUTED_AT, f"{computed_at:%Y-%m-%d %H:%M:%S %Z}".encode())
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(body.rstrip() + mark)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return True


def _is_current(path: Path, mark: bytes, since: float) -> bool:
    try:
        return path.stat().st_mtime > since and path.read_bytes().endswith(mark)
    except FileNotFoundError:
        return False
