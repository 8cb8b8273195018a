"""Incidents and planned maintenance of status pages for operators, and their templates."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from dashboard.forms.fields import posted
from dashboard.forms.status_pages import IncidentForm, TemplateForm, UpdateForm
from dashboard.status_page import incidents
from dashboard.status_page.models import (
    STATUSES,
    Impact,
    IncidentKind,
    IncidentTemplate,
    StatusPage,
)
from dashboard.views.status_pages import page_of


def _initial(request: HttpRequest, page: StatusPage, kind: str, now: datetime) -> dict[str, Any]:
    """Return the first values of a new incident: those of the template in the address, if there is one."""
    initial: dict[str, Any] = {"status": STATUSES[kind][0], "impact": Impact.MINOR}
    if kind == IncidentKind.MAINTENANCE:
        hour = now.replace(minute=0, second=0, microsecond=0)
        initial |= {"starts_at": hour + timedelta(hours=24), "ends_at": hour + timedelta(hours=25)}
    template = page.templates.filter(template_id=request.GET.get("template", "").replace("\0", "")).first()
    if template is not None:
        initial |= {name: getattr(template, name) for name in ("title", "status", "impact", "text")}
    return initial


@require_http_methods(["GET", "HEAD", "POST"])
def new_incident(request: HttpRequest, page_id: str, kind: str) -> HttpResponse:
    """Write an incident, or plan a maintenance."""
    caller, page = page_of(request, page_id)
    form = IncidentForm(posted(request), page, kind, _initial(request, page, kind, timezone.now()))
    if created := form.save(partial(incidents.create_incident, page, IncidentKind(kind), caller=caller)):
        messages.success(request, f"{created.title} is on the page; subscribers are notified.")
        return redirect("dashboard:status-page", page.page_id)
    context = {
        "page": page,
        "form": form,
        "is_maintenance": kind == IncidentKind.MAINTENANCE,
        "templates": page.templates.filter(kind=kind),
    }
    return render(request, "dashboard/status/new_incident.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def incident_page(request: HttpRequest, page_id: str, incident_id: str) -> HttpResponse:
    """Show an incident with its updates; add an update, or change its details (`do=change`)."""
    caller, page = page_of(request, page_id)
    incident = get_object_or_404(page.incidents, incident_id=incident_id)
    changes_details = request.POST.get("do") == "change"
    update_form = UpdateForm(None if changes_details else posted(request), incident)
    form = IncidentForm.of_incident(posted(request) if changes_details else None, incident)
    if changes_details:
        if form.save(partial(incidents.change_incident, incident)):
            messages.success(request, "Changes saved. Nobody was notified.")
            return redirect("dashboard:status-incident", page_id, incident_id)
    elif update_form.save(lambda values: incidents.add_update(incident, values["status"], values["text"], caller)):
        messages.success(request, "Update published; subscribers are notified.")
        return redirect("dashboard:status-incident", page_id, incident_id)
    context = {
        "page": page,
        "incident": incident,
        "updates": incident.updates.all(),
        "form": form,
        "update_form": update_form,
        "is_maintenance": incident.kind == IncidentKind.MAINTENANCE,
    }
    status = 422 if form.errors or update_form.errors else 200
    return render(request, "dashboard/status/incident.html", context, status=status)


@require_POST
def delete_incident(request: HttpRequest, page_id: str, incident_id: str) -> HttpResponse:
    """Delete an incident with its updates."""
    _, page = page_of(request, page_id)
    incident = get_object_or_404(page.incidents, incident_id=incident_id)
    incidents.delete_incident(incident)
    messages.success(request, f"{incident.title} deleted.")
    return redirect("dashboard:status-page", page_id)


@require_http_methods(["GET", "HEAD", "POST"])
def template_page(request: HttpRequest, page_id: str, template_id: str = "") -> HttpResponse:
    """Show a template as a form, or the form of a new one, and save it."""
    _, page = page_of(request, page_id)
    template = IncidentTemplate(page=page)
    if template_id:
        template = get_object_or_404(page.templates, template_id=template_id)
    initial = {name: getattr(template, name) for name in ("name", "kind", "title", "impact", "text")}
    form = TemplateForm(posted(request), initial=initial)
    if saved := form.save(partial(incidents.save_template, template)):
        messages.success(request, f"Template {saved.name} saved.")
        return redirect("dashboard:status-page", page.page_id)
    context = {"page": page, "template": template, "form": form}
    return render(request, "dashboard/status/template.html", context, status=422 if form.errors else 200)


@require_POST
def delete_template(request: HttpRequest, page_id: str, template_id: str) -> HttpResponse:
    """Delete a template."""
    _, page = page_of(request, page_id)
    template = get_object_or_404(page.templates, template_id=template_id)
    template.delete()
    messages.success(request, f"Template {template.name} deleted.")
    return redirect("dashboard:status-page", page_id)
