"""Actions on alerts: acknowledge, resolve, assign, comment and feedback. Forms and scripts of every page post here."""

from functools import reduce
from operator import or_

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from alerts import alert_actions
from alerts.anomaly_feedback import give_feedback, takes_feedback, withdraw_feedback
from alerts.models import Alert, Resolution
from alerts.models.alerts import AlertQuerySet
from dashboard.device_overview import plural
from dashboard.inbox_filters import InboxFilters
from dashboard.views.access import operator_of, return_url
from dashboard.views.inbox import row_states
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

FEEDBACK_MESSAGES = {
    "yes": "Feedback saved: an anomaly.",
    "no": "Feedback saved: not an anomaly.",
    "withdraw": "Feedback withdrawn.",
}


@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """Apply an action to the selected alerts; the ID of an incident stands for its alerts.

    `inc_…:active` stands for those of one status that match the filters of the page (`filters`), as its row does.

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
    visible = Alert.objects.visible_to(caller)
    selected = _select(visible, ids, InboxFilters.parse(QueryDict(request.POST.get("filters", ""))), caller)
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
        states = row_states(visible.filter(pk__in=[alert.pk for alert in changed]), visible)
        return JsonResponse({"changed": states, "message": message})
    (messages.success if changed else messages.warning)(request, message)
    return redirect(return_url(request, reverse("dashboard:alerts")))


@require_POST
def give_alert_feedback(request: HttpRequest, alert_id: str) -> HttpResponse:
    """Store whether an alert was an anomaly (`yes`, `no`), or `withdraw` the answer."""
    caller = operator_of(request)
    alert = get_object_or_404(Alert.objects.visible_to(caller), alert_id=alert_id)
    answer = request.POST.get("answer", "")
    if answer not in FEEDBACK_MESSAGES or not takes_feedback(alert):
        raise BadRequest(f"answer must be {', '.join(FEEDBACK_MESSAGES)}, for alerts of anomaly rules")
    if answer == "withdraw":
        withdraw_feedback(alert, caller.name)
    else:
        give_feedback(alert, answer == "yes", caller.name)
    messages.success(request, FEEDBACK_MESSAGES[answer])
    return redirect("dashboard:alert", alert.alert_id)


def _select(visible: AlertQuerySet, ids: list[str], filters: InboxFilters, caller: Caller) -> AlertQuerySet:
    """Return the alerts of these IDs, and those of the incidents."""
    selected = Q(alert_id__in=ids) | Q(incident__incident_id__in=ids)
    rows = [(incident, status) for incident, separator, status in (text.partition(":") for text in ids) if separator]
    if rows:
        matching = filters.apply(visible.without_shadows(), caller).order_by()
        of_rows = reduce(or_, (Q(incident__incident_id=incident, status=status) for incident, status in rows))
        selected |= Q(pk__in=matching.filter(of_rows).values("pk"))
    return visible.filter(selected)


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
