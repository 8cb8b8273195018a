"""What people do with alerts: acknowledge, resolve, assign, comment. Forms of every page post here."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from alerts import alert_actions
from alerts.models import Alert, Resolution
from alerts.models.alerts import AlertQuerySet
from dashboard.alert_rows import person
from dashboard.device_overview import plural
from dashboard.views.access import operator_of
from rest.caller import Caller

MOST_CHOSEN = 500
LONGEST_NOTE = 10_000
NOTE_MISSING = "Nothing was added: write a note first."
NONE_CHOSEN = "Nothing was changed: choose at least one alert."


@login_required
@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """A verb on what is chosen: ids of alerts, and of incidents for all that is in them.

    A button that stands in a row names both: `acknowledge=alt_…`. Scripts are told what has moved.
    """
    caller = operator_of(request)
    verb, ids = request.POST.get("verb", ""), request.POST.getlist("alert")[:MOST_CHOSEN]
    if only := request.POST.get("acknowledge"):
        verb, ids = "acknowledge", [only]
    if verb not in VERBS:
        raise BadRequest("no such verb")
    note = request.POST.get("note", "").replace("\0", "").strip()[:LONGEST_NOTE]
    among = Alert.objects.visible_to(caller).filter(Q(alert_id__in=ids) | Q(incident__incident_id__in=ids))
    moved: list[Alert] = []
    if verb == "comment" and not note:
        fault = NOTE_MISSING
    elif not ids:
        fault = NONE_CHOSEN
    else:
        moved, fault = VERBS[verb](among, caller, note, request.POST.get("owner", caller.name).replace("\0", ""))
    said = fault if not moved else f"{plural(len(moved), 'alert')} {DONE[verb]}."
    if "application/json" in request.headers.get("Accept", ""):
        told = [{"alert_id": one.alert_id, "status": one.status, "owner": person(one.owner)} for one in moved]
        return JsonResponse({"moved": told, "said": said})
    (messages.success if moved else messages.warning)(request, said)
    return redirect(_back(request))


def _acknowledge(among: AlertQuerySet, caller: Caller, note: str, owner: str) -> tuple[list[Alert], str]:
    return alert_actions.acknowledge(
        among, caller.name, note
    ), "Nothing was changed: somebody has it already, or it is over."


def _resolve(among: AlertQuerySet, caller: Caller, note: str, owner: str) -> tuple[list[Alert], str]:
    return alert_actions.resolve(
        among, Resolution.PERSON, caller.name, note
    ), "Nothing was changed: it is over already."


def _assign(among: AlertQuerySet, caller: Caller, note: str, owner: str) -> tuple[list[Alert], str]:
    return alert_actions.assign(among, owner[:200], caller.name), "Nothing was changed: it is over already."


def _comment(among: AlertQuerySet, caller: Caller, note: str, owner: str) -> tuple[list[Alert], str]:
    return alert_actions.comment(among, caller.name, note), "Nothing was added: there is no such alert."


VERBS: dict[str, Any] = {"acknowledge": _acknowledge, "resolve": _resolve, "assign": _assign, "comment": _comment}
DONE = {"acknowledge": "acknowledged", "resolve": "resolved", "assign": "assigned", "comment": "got the note"}


def _back(request: HttpRequest) -> str:
    """The page that the form stood on, where it is one of this site."""
    given = request.POST.get("back", "")
    return given if url_has_allowed_host_and_scheme(given, allowed_hosts=None) else reverse("dashboard:alerts")
