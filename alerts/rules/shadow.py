"""What a shadow rule has found beside the rule that it is tried for."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Coalesce, Now

from alerts.models import Alert, Rule
from alerts.models.alerts import AlertQuerySet
from rest.caller import Caller


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Alerts of both rules, newest first: to be counted, and listed page by page.

    both  those of the live rule that overlap one of the shadow, at the same device and metric
    """

    since: datetime
    only_live: AlertQuerySet
    only_shadow: AlertQuerySet
    both: AlertQuerySet

    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name).count() for name in ("only_live", "only_shadow", "both")}


def compare(live: Rule, shadow: Rule, since: datetime, caller: Caller) -> SideBySide:
    """What each of them found at devices that a caller sees, since both were there."""
    since = max(since, shadow.created_at)
    seen = Alert.objects.visible_to(caller).filter(Q(resolved_at__isnull=True) | Q(resolved_at__gte=since))
    of_live, of_shadow = seen.filter(rule=live), seen.filter(rule=shadow)
    return SideBySide(
        since=since,
        only_live=of_live.filter(~_overlapping(shadow)),
        only_shadow=of_shadow.filter(~_overlapping(live)),
        both=of_live.filter(_overlapping(shadow)),
    )


def _overlapping(rule: Rule) -> Exists:
    """Whether a rule has an alert of the same series at the same time."""
    return Exists(
        Alert.objects.filter(
            Q(resolved_at__isnull=True) | Q(resolved_at__gte=OuterRef("triggered_at")),
            rule=rule,
            device=OuterRef("device"),
            metric_name=OuterRef("metric_name"),
            triggered_at__lte=Coalesce(OuterRef("resolved_at"), Now()),
        )
    )
