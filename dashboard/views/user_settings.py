"""The settings of the user, which the browser keeps."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from dashboard.time_zone import CHOSEN_COOKIE, TIME_ZONES, chosen_zone

MAX_AGE = 400 * 86_400  # browsers allow no more


@require_http_methods(["GET", "HEAD", "POST"])
def user_settings(request: HttpRequest) -> HttpResponse:
    """Show the settings, or save them: the time zone, empty for that of the browser."""
    if request.method != "POST":
        context = {"time_zones": [(name, name) for name in sorted(TIME_ZONES)], "chosen": chosen_zone(request)}
        return render(request, "dashboard/settings.html", context)
    zone = request.POST.get("time_zone", "")
    if zone and zone not in TIME_ZONES:
        messages.error(request, "Not saved. Choose a time zone of the list.")
        return redirect("dashboard:settings")
    messages.success(request, f"Times are shown in {zone or 'the time zone of the browser'}.")
    response = redirect("dashboard:settings")
    if zone:
        response.set_cookie(CHOSEN_COOKIE, zone, MAX_AGE, secure=request.is_secure(), samesite="Lax")
    else:
        response.delete_cookie(CHOSEN_COOKIE, samesite="Lax")
    return response
