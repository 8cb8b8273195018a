"""Compare the alerts of a shadow rule with those of its live rule."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Coalesce, Now

from alerts.models import Alert, Rule
from alerts.models.alerts import AlertQuerySet
from rest.caller import Caller


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """Alerts of both rules, newest first.

    both  alerts of the live rule that overlap one of the shadow rule, of the same device and metric
    """

    since: datetime
    only_live: AlertQuerySet
    only_shadow: AlertQuerySet
    both: AlertQuerySet

    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name).count() for name in ("only_live", "only_shadow", "both")}


def compare(live: Rule, shadow: Rule, since: datetime, caller: Caller) -> ShadowComparison:
    """Compare the alerts of devices visible to a caller, since both rules existed."""
    since = max(since, shadow.created_at)
    visible = Alert.objects.visible_to(caller).filter(Q(resolved_at__isnull=True) | Q(resolved_at__gte=since))
    of_live, of_shadow = visible.filter(rule=live), visible.filter(rule=shadow)
    return ShadowComparison(
        since=since,
        only_live=of_live.filter(~_overlapping(shadow)),
        only_shadow=of_shadow.filter(~_overlapping(live)),
        both=of_live.filter(_overlapping(shadow)),
    )


def _overlapping(rule: Rule) -> Exists:
    """Whether the rule has an alert of the same device and metric at the same time."""
    return Exists(
        Alert.objects.filter(
            Q(resolved_at__isnull=True) | Q(resolved_at__gte=OuterRef("triggered_at")),
            rule=rule,
            device=OuterRef("device"),
            metric_name=OuterRef("metric_name"),
            triggered_at__lte=Coalesce(OuterRef("resolved_at"), Now()),
        )
    )
