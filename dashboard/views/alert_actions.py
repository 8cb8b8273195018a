"""Actions on alerts: acknowledge, resolve, assign and comment. Forms and scripts of every page post here."""

from django.contrib import messages
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
from dashboard.alert_rows import display_name
from dashboard.device_overview import plural
from dashboard.views.access import operator_of
from rest.caller import Caller

MAX_SELECTED = 500
MAX_NOTE_LENGTH = 10_000
MAX_OWNER_LENGTH = 200
ENTER_NOTE = "No note added. Enter a note first."
SELECT_ALERT = "Nothing changed. Select at least one alert."
# The messages of each action: for changed alerts, and where none changed.
ACTIONS = {
    "acknowledge": ("{} acknowledged.", "Nothing changed. The alert is already acknowledged or resolved."),
    "resolve": ("{} resolved.", "Nothing changed. The alert is already resolved."),
    "assign": ("{} assigned.", "Nothing changed. The alert is already resolved."),
    "comment": ("Note added to {}.", "No note added. The alert does not exist."),
}


@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """Apply an action to the selected alerts; the ID of an incident stands for all its alerts.

    The button of a row posts `acknowledge=alt_…` alone. Scripts receive the changed alerts as JSON.
    """
    caller = operator_of(request)
    action, ids = request.POST.get("verb", ""), request.POST.getlist("alert")[:MAX_SELECTED]
    if only := request.POST.get("acknowledge"):
        action, ids = "acknowledge", [only]
    if action not in ACTIONS:
        raise BadRequest(f"verb must be {', '.join(ACTIONS)}")
    note = request.POST.get("note", "").replace("\0", "").strip()[:MAX_NOTE_LENGTH]
    owner = request.POST.get("owner", caller.name).replace("\0", "")[:MAX_OWNER_LENGTH]
    selected = Alert.objects.visible_to(caller).filter(Q(alert_id__in=ids) | Q(incident__incident_id__in=ids))
    changed: list[Alert] = []
    if action == "comment" and not note:
        message = ENTER_NOTE
    elif not ids:
        message = SELECT_ALERT
    else:
        done, unchanged = ACTIONS[action]
        changed = _apply(action, selected, caller, note, owner)
        message = done.format(plural(len(changed), "alert")) if changed else unchanged
    if "application/json" in request.headers.get("Accept", ""):
        return JsonResponse({"changed": [_shown(alert) for alert in changed], "message": message})
    (messages.success if changed else messages.warning)(request, message)
    return redirect(_return_url(request))


def _shown(alert: Alert) -> dict[str, str]:
    return {"alert_id": alert.alert_id, "status": alert.status, "owner": display_name(alert.owner)}


def _apply(action: str, alerts: AlertQuerySet, caller: Caller, note: str, owner: str) -> list[Alert]:
    """Return the alerts that the action changed."""
    match action:
        case "acknowledge":
            return alert_actions.acknowledge(alerts, caller.name, note)
        case "resolve":
            return alert_actions.resolve(alerts, Resolution.PERSON, caller.name, note)
        case "assign":
            return alert_actions.assign(alerts, owner, caller.name)
        case _:
            return alert_actions.comment(alerts, caller.name, note)


def _return_url(request: HttpRequest) -> str:
    """Return the page of the form (`back`), if it is a page of this site; else the inbox."""
    url = request.POST.get("back", "")
    return url if url_has_allowed_host_and_scheme(url, allowed_hosts=None) else reverse("dashboard:alerts")
