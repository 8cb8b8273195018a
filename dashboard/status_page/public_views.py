"""Public pages and documents. None of them reads a session: everybody gets the same answer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe

from dashboard.status_page import badge, feeds
from dashboard.status_page.addresses import page_url
from dashboard.status_page.answers import COMPUTED_AT, Answer, CachedPage, PageKey, find_page, respond
from dashboard.status_page.markup import component_rows, css_class, sign, uptime_table
from dashboard.status_page.models import StatusIncident
from dashboard.status_page.snapshot import PageSnapshot, public_incidents
from dashboard.status_page.statuspage_json import StatuspageDocuments

PAGE_SIZE = 20  # incidents per page of the history
HTML = "text/html; charset=utf-8"


def public_url(request: HttpRequest, snapshot: PageSnapshot) -> str:
    """Return the absolute address of a page."""
    return page_url(snapshot.slug, snapshot.host_name) or request.build_absolute_uri(f"/status/{snapshot.slug}/")


def page_context(snapshot: PageSnapshot, url: str) -> dict[str, Any]:
    return {
        "page": snapshot,
        "url": url,
        "subscribable": bool(page_url(snapshot.slug, snapshot.host_name)),
        "computed_at": COMPUTED_AT.decode(),
        "state_class": css_class(snapshot.state),
        "state_sign": sign(snapshot.state, " "),
    }


def render_page(snapshot: PageSnapshot, url: str, css: str = "", preview: bool = False) -> Answer:
    """Return the page; with `css`, a file that needs nothing else."""
    context = page_context(snapshot, url) | {
        "rows": component_rows(snapshot),
        "uptimes": uptime_table(snapshot),
        "css": css,
        "preview": preview,
    }
    return Answer.of(render_to_string("status/page.html", context).encode(), HTML)


def _public(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Pass the cached page of the address to a view: by slug, by host name, or the oldest published one."""

    def wrapped(request: HttpRequest, slug: str = "", **names: Any) -> HttpResponse:
        host_name = getattr(request, "status_host", "")
        page = find_page(PageKey(slug, "" if slug else host_name))
        if page is None:
            raise Http404("there is no status page here")
        return view(request, page, **names)

    return require_safe(wrapped)


@_public
def page(request: HttpRequest, page: CachedPage) -> HttpResponse:
    url = public_url(request, page.snapshot)
    return respond(request, page, page.answer(f"page {url}", partial(render_page, url=url)))


@_public
def document(request: HttpRequest, page: CachedPage, path: str) -> HttpResponse:
    """Return a document of Statuspage's API."""
    url = public_url(request, page.snapshot)

    def render(snapshot: PageSnapshot) -> Answer:
        body = msgspec.json.encode(StatuspageDocuments(snapshot, url).document(path))
        return Answer.of(body, "application/json; charset=utf-8")

    response = respond(request, page, page.answer(f"{path} {url}", render))
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


@_public
def feed(request: HttpRequest, page: CachedPage, kind: str) -> HttpResponse:
    url = public_url(request, page.snapshot)
    return respond(request, page, page.answer(f"{kind} {url}", lambda snapshot: feeds.render_feed(kind, snapshot, url)))


@_public
def calendar(request: HttpRequest, page: CachedPage) -> HttpResponse:
    url = public_url(request, page.snapshot)
    render = partial(feeds.render_calendar, url=url)
    return respond(request, page, page.answer(f"calendar {url}", render))


@_public
def page_badge(request: HttpRequest, page: CachedPage, component_id: str | None = None) -> HttpResponse:
    if component_id is not None and component_id not in page.snapshot.component_by_id:
        raise Http404("there is no such component")
    answer = page.answer(f"badge {component_id}", partial(badge.render_badge, component_id=component_id))
    return respond(request, page, answer)


@_public
def incident(request: HttpRequest, page: CachedPage, incident_id: str) -> HttpResponse:
    """Show one incident or maintenance with all its updates."""
    snapshot, url = page.snapshot, public_url(request, page.snapshot)
    known = [item for item in (*snapshot.incidents, *snapshot.maintenances) if item.id == incident_id]
    if not known:
        rows = StatusIncident.objects.filter(page__page_id=snapshot.id, incident_id=incident_id)
        known = list(public_incidents(rows.prefetch_related("updates", "components")))
    if not known:
        raise Http404("there is no such incident")
    context = page_context(snapshot, url) | {"incident": known[0]}
    return respond(request, page, Answer.of(render_to_string("status/incident.html", context).encode(), HTML))


@_public
def history(request: HttpRequest, page: CachedPage) -> HttpResponse:
    """List all incidents and maintenance, the newest first."""
    snapshot, url = page.snapshot, public_url(request, page.snapshot)
    rows = StatusIncident.objects.filter(page__page_id=snapshot.id).prefetch_related("updates", "components")
    listed = Paginator(rows.order_by("-starts_at", "-id"), PAGE_SIZE).get_page(request.GET.get("page"))
    context = page_context(snapshot, url) | {"listed": listed, "incidents": public_incidents(listed.object_list)}
    return respond(request, page, Answer.of(render_to_string("status/history.html", context).encode(), HTML))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer requests to the host name of a page for anything else."""
    return HttpResponse("There is nothing at this address.\n", content_type="text/plain; charset=utf-8", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    return HttpResponse("The page cannot be shown now.\n", content_type="text/plain; charset=utf-8", status=500)
