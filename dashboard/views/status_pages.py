"""Status pages for operators: the list, one page with its components, settings, publishing and the preview."""

from functools import partial
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.visibility import visible_rules
from dashboard.forms.fields import MAX_CHOICES, names_of, posted
from dashboard.forms.status_pages import NewStatusPageForm, StatusComponentForm, StatusPageForm
from dashboard.status_page import lifecycle
from dashboard.status_page.addresses import may_subscribe, page_url
from dashboard.status_page.answers import COMPUTED_AT
from dashboard.status_page.markup import sign
from dashboard.status_page.models import ENDED, IncidentKind, StatusComponent, StatusPage
from dashboard.status_page.public_views import render_page
from dashboard.status_page.snapshot import build_snapshot
from dashboard.status_page.tree import MAX_DEPTH, ComponentTree
from dashboard.status_page.visibility import visible_pages
from dashboard.time_zone import zone_of
from dashboard.views.access import operator_of
from metrics.models import DeviceGroup
from rest.caller import Caller

MAX_PAGES = 200
MAX_INCIDENTS = 20


def page_of(request: HttpRequest, page_id: str) -> tuple[Caller, StatusPage]:
    """Return the caller and the page. Raises PermissionDenied or Http404."""
    caller = operator_of(request)
    return caller, get_object_or_404(visible_pages(caller), page_id=page_id)


@require_safe
def page_list(request: HttpRequest) -> HttpResponse:
    """List the pages with their states."""
    now = timezone.now()
    snapshots = [build_snapshot(page, now) for page in visible_pages(operator_of(request))[:MAX_PAGES]]
    rows = [(snapshot, sign(snapshot.state)) for snapshot in snapshots]
    return render(request, "dashboard/status/pages.html", {"rows": rows})


@require_http_methods(["GET", "HEAD", "POST"])
def new_page(request: HttpRequest) -> HttpResponse:
    """Create a page, with a component for each chosen device group."""
    caller = operator_of(request)
    form = NewStatusPageForm(posted(request))
    form.offer("groups", names_of(DeviceGroup.objects.visible_to(caller)))

    @transaction.atomic
    def create(values: dict[str, Any]) -> StatusPage:
        title = values["title"]
        fields = {"title": title, "slug": lifecycle.unused_slug(title), "time_zone": zone_of(request)}
        page = lifecycle.create_page(fields, caller)
        lifecycle.create_components_of_groups(page, values["groups"], caller)
        return page

    if page := form.save(create):
        messages.success(request, f"{page.title} created. Check the preview, then publish the page.")
        return redirect("dashboard:status-page", page.page_id)
    return render(request, "dashboard/status/new.html", {"form": form}, status=422 if form.errors else 200)


@require_safe
def page_overview(request: HttpRequest, page_id: str) -> HttpResponse:
    """Show a page to those who may change it."""
    _, page = page_of(request, page_id)
    snapshot = build_snapshot(page, timezone.now())
    incidents = page.incidents.prefetch_related("components")
    open_incidents = [*incidents.exclude(status__in=ENDED)[:MAX_INCIDENTS]]
    context = {
        "page": page,
        "snapshot": snapshot,
        "sign": sign(snapshot.state),
        "components": [(component, sign(component.state)) for component in snapshot.components],
        "open_incidents": [row for row in open_incidents if row.kind == IncidentKind.INCIDENT],
        "maintenances": [row for row in open_incidents if row.kind == IncidentKind.MAINTENANCE],
        "ended": incidents.filter(status__in=ENDED)[:MAX_INCIDENTS],
        "templates": page.templates.all()[:MAX_PAGES],
        "subscribers": page.subscribers.exclude(confirmed_at=None).count(),
        "may_subscribe": may_subscribe(page),
        "public_url": page_url(page.slug, page.host_name) or f"/status/{page.slug}/",
    }
    return render(request, "dashboard/status/page.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def page_settings(request: HttpRequest, page_id: str) -> HttpResponse:
    """Show the settings of a page and save them."""
    _, page = page_of(request, page_id)
    form = StatusPageForm(posted(request), page)
    if saved := form.save(partial(lifecycle.change_page, page)):
        messages.success(request, "Settings saved.")
        return redirect("dashboard:status-page", saved.page_id)
    context = {"page": page, "form": form}
    return render(request, "dashboard/status/settings.html", context, status=422 if form.errors else 200)


@require_POST
def publish_page(request: HttpRequest, page_id: str) -> HttpResponse:
    """Publish a page, or withdraw it."""
    _, page = page_of(request, page_id)
    published = request.POST.get("published") == "on"
    lifecycle.change_page(page, {"published": published})
    messages.success(request, "Published: everybody can see the page." if published else "Withdrawn.")
    return redirect("dashboard:status-page", page_id)


@require_POST
def delete_page(request: HttpRequest, page_id: str) -> HttpResponse:
    """Delete a page."""
    _, page = page_of(request, page_id)
    lifecycle.delete_page(page)
    messages.success(request, f"{page.title} deleted.")
    return redirect("dashboard:status-pages")


@require_safe
def preview_page(request: HttpRequest, page_id: str) -> HttpResponse:
    """Show a page as everybody sees it, or would see it."""
    _, page = page_of(request, page_id)
    snapshot = build_snapshot(page, timezone.now())
    answer = render_page(snapshot, request.build_absolute_uri(f"/status/{page.slug}/"), preview=not page.published)
    at = f"{snapshot.computed_at.astimezone(snapshot.zone):%Y-%m-%d %H:%M:%S %Z}"
    return HttpResponse(answer.body.replace(COMPUTED_AT, at.encode()), content_type=answer.content_type)


def _group_choices(page: StatusPage, component: StatusComponent) -> list[tuple[str, str]]:
    """Return the groups that may contain a component."""
    tree = ComponentTree.of(page.components.all())
    excluded = {component.pk, *(child.pk for child in tree.descendants(component))} if component.pk else set()
    return [
        (node.component.component_id, node.component.name)
        for node in tree.walk()
        if not node.component.is_leaf and node.component.pk not in excluded and node.depth < MAX_DEPTH - 1
    ]


@require_http_methods(["GET", "HEAD", "POST"])
def component_page(request: HttpRequest, page_id: str, component_id: str = "") -> HttpResponse:
    """Show a component as a form, or the form of a new one, and save it."""
    caller, page = page_of(request, page_id)
    component = StatusComponent(page=page)
    save = partial(lifecycle.create_component, page, caller=caller)
    if component_id:
        component = get_object_or_404(page.components.select_related("parent"), component_id=component_id)
        save = partial(lifecycle.change_component, component, caller=caller)
    elif parent := request.GET.get("group"):
        component.parent = page.components.filter(component_id=parent.replace("\0", "")).first()
    form = StatusComponentForm(posted(request), component, _group_choices(page, component))
    form.offer("device_groups", names_of(DeviceGroup.objects.visible_to(caller)))
    form.offer("rule_ids", visible_rules(caller).order_by("name").values_list("rule_id", "name")[:MAX_CHOICES])
    if saved := form.save(save):
        messages.success(request, f"{saved.name} saved.")
        return redirect("dashboard:status-page", page.page_id)
    context = {"page": page, "component": component, "form": form}
    return render(request, "dashboard/status/component.html", context, status=422 if form.errors else 200)


@require_POST
def move_component(request: HttpRequest, page_id: str, component_id: str) -> HttpResponse:
    """Move a component up or down in its group."""
    _, page = page_of(request, page_id)
    component = get_object_or_404(page.components, component_id=component_id)
    lifecycle.move_component(component, -1 if request.POST.get("step") == "up" else 1)
    return redirect("dashboard:status-page", page_id)


@require_POST
def delete_component(request: HttpRequest, page_id: str, component_id: str) -> HttpResponse:
    """Delete a component with all components in it."""
    _, page = page_of(request, page_id)
    component = get_object_or_404(page.components, component_id=component_id)
    lifecycle.delete_component(component)
    messages.success(request, f"{component.name} deleted.")
    return redirect("dashboard:status-page", page_id)
