"""Collectors: the list, and the form of each with its journal. Admins change and try; operators run and read."""

from functools import partial
from typing import Any

from django.contrib import messages
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from dashboard.forms.collectors import CollectorEditForm
from dashboard.forms.fields import posted
from dashboard.pagination import paginate, search_of
from dashboard.views.access import admin_of, operator_of
from ingest.collection import lifecycle
from ingest.collection.display import status_of, target_of
from ingest.collection.kinds import KINDS
from ingest.collection.kinds.kind import Kind
from ingest.collection.models import Collector
from rest.caller import Scope, caller_of
from rest.errors import InvalidFields

MAX_TRIED_READINGS = 200
SIGNS = {"ok": "ok", "failing": "offline", "overdue": "late", "waiting": "never", "paused": "paused"}
LABELS = {
    "ok": "OK", "failing": "Failing", "overdue": "No worker collects", "waiting": "Waiting", "paused": "Paused",
}  # fmt: skip


def visible_collectors(request: HttpRequest) -> QuerySet[Collector]:
    return Collector.objects.visible_to(caller_of(request.user)).select_related("state")


def describe(collector: Collector) -> dict[str, Any]:
    """Return a collector with its state, target and kind in words."""
    status = status_of(collector, timezone.now())
    kind = KINDS.get(collector.kind)
    return {
        "collector": collector,
        "state": collector.state,
        "status": status,
        "label": LABELS[status],
        "sign": SIGNS[status],
        "target": target_of(collector),
        "kind": kind.label if kind else collector.kind,
    }


@require_safe
def collector_list(request: HttpRequest) -> HttpResponse:
    """Show a page of the collectors that the caller sees, failing ones first."""
    search = search_of(request)
    collectors = visible_collectors(request)
    if search:
        collectors = collectors.filter(name__icontains=search) | collectors.filter(device_id__icontains=search)
    failing = ExpressionWrapper(Q(enabled=True) & ~Q(state__error=""), BooleanField())
    page = paginate(request, collectors.annotate(is_failing=failing).order_by("-is_failing", "name"))
    context = {"page": page, "rows": [describe(collector) for collector in page.rows], "search": search}
    return render(request, "dashboard/collectors.html", context)


@require_safe
def choose_kind(request: HttpRequest) -> HttpResponse:
    """Show the kinds of collectors to choose from."""
    admin_of(request)
    return render(request, "dashboard/collector_kinds.html", {"kinds": list(KINDS.values())})


@require_http_methods(["GET", "HEAD", "POST"])
def new_collector(request: HttpRequest, kind: str) -> HttpResponse:
    """Show the form of a new collector of a kind, try it or save it."""
    caller = admin_of(request)
    if kind not in KINDS:
        raise Http404
    collector = Collector(kind=kind, device_id=request.GET.get("device", ""))
    return _edit(request, collector, KINDS[kind], partial(lifecycle.create_collector, by=caller.name))


@require_http_methods(["GET", "HEAD", "POST"])
def collector_page(request: HttpRequest, collector_id: str) -> HttpResponse:
    """Show a collector with its journal; to admins as a form, which they try or save."""
    if request.method == "POST":
        admin_of(request)
    collector = get_object_or_404(visible_collectors(request), collector_id=collector_id)
    context = describe(collector) | {"page": paginate(request, collector.collections.all())}
    if not caller_of(request.user).may(Scope.ADMIN) or collector.kind not in KINDS:
        return render(request, "dashboard/collector.html", context)
    save = partial(lifecycle.change_collector, collector)
    return _edit(request, collector, KINDS[collector.kind], save, context)


def _edit(
    request: HttpRequest, collector: Collector, kind: Kind, save: Any, context: dict[str, Any] | None = None
) -> HttpResponse:
    """Show a form with its errors or with the result of a trial; save it and show the collector."""
    form = CollectorEditForm(posted(request), collector, kind)
    trial = None
    if "try" in request.POST:
        trial = form.save(partial(_try, collector))
    elif saved := form.save(save):
        messages.success(request, f"{saved.name} saved.")
        return redirect("dashboard:collector", saved.collector_id)
    shown = {"collector": collector, "kind": kind.label, "form": form, "trial": trial, "description": kind.description}
    shown["tried_readings"] = trial.readings[:MAX_TRIED_READINGS] if trial else []
    return render(request, "dashboard/collector.html", (context or {}) | shown, status=422 if form.errors else 200)


def _try(collector: Collector, fields: dict[str, Any]) -> lifecycle.Trial:
    """Collect once with the values of the form, and store nothing. Raises InvalidFields."""
    tried = Collector(pk=collector.pk, collector_id=collector.collector_id, kind=collector.kind)
    tried.encrypted_secrets = collector.encrypted_secrets
    lifecycle.set_fields(tried, fields)
    lifecycle.check_collector(tried)
    try:
        return lifecycle.try_collector(tried)
    except lifecycle.TriesBusy as busy:
        raise InvalidFields([("try", str(busy))]) from None


@require_POST
def run_collector(request: HttpRequest, collector_id: str) -> HttpResponse:
    """Ask a worker to collect now."""
    caller = operator_of(request)
    collector = get_object_or_404(visible_collectors(request), collector_id=collector_id)
    lifecycle.request_collection(collector, caller.name)
    messages.success(request, f"{collector.name} runs now. Reload the page to see the result.")
    return redirect("dashboard:collector", collector_id)


@require_POST
def switch_collector(request: HttpRequest, collector_id: str) -> HttpResponse:
    """Pause a collector, or resume a paused one."""
    admin_of(request)
    collector = get_object_or_404(visible_collectors(request), collector_id=collector_id)
    enabled = request.POST.get("enabled") == "true"
    try:
        lifecycle.change_collector(collector, {"enabled": enabled})
    except InvalidFields as invalid:
        messages.error(request, f"{collector.name} was not changed: {invalid}")
    else:
        messages.success(request, f"{collector.name} {'resumed' if enabled else 'paused'}.")
    return redirect("dashboard:collector", collector_id)


@require_POST
def delete_collector(request: HttpRequest, collector_id: str) -> HttpResponse:
    """Delete a collector and its journal; its points are kept."""
    admin_of(request)
    collector = get_object_or_404(visible_collectors(request), collector_id=collector_id)
    collector.delete()
    messages.success(request, f"{collector.name} deleted. Its points are kept.")
    return redirect("dashboard:collectors")
