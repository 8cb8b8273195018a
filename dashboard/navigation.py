"""What every page's frame shows."""

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from dashboard.open_alert_counts import Tally
from rest.caller import Scope, caller_of


def open_alerts(request: HttpRequest) -> dict[str, Any]:
    """How many alerts are open, and whether whoever asks operates: looked up only where a page shows it."""

    def tally() -> Tally:
        return Tally.of(caller_of(request.user)) if request.user.is_authenticated else Tally({}, {})

    def operates() -> bool:
        return request.user.is_authenticated and caller_of(request.user).may(Scope.OPERATE)

    return {"alerts": SimpleLazyObject(tally), "may_operate": SimpleLazyObject(operates)}
