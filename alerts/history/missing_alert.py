"""Why the evaluator opened no alert although the stored points meet the condition of a rule."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum
from django.utils.timezone import localtime

from alerts.models import Cursor, LateRange, Rule
from metrics.alert_summary import registered_summary
from metrics.models import Device, Head, Series
from metrics.storage.units import to_microseconds


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One step of evaluation.

    state   yes: a reason for an alert; no: a reason against one; note: no influence
    """

    label: str
    state: str
    detail: str


def explain_missing_alert(device: Device, rule: Rule, since: datetime | None, value_at: datetime) -> TraceStep:
    """Return why the value of a time, which meets the condition, opened no alert.

    since  when the version of the rule came into force
    """
    if since is not None and value_at < since:
        return _step(
            f"the value is older than the rule: this version is in force since {format_time(since)}, and points that"
            " were stored before are not evaluated again"
        )
    if waiting := _count_waiting_commits():
        status, detail = registered_summary().health()
        reason = f": {detail}" if status != "healthy" else ""
        return _step(f"not evaluated yet, {waiting:,} commits are waiting{reason}")
    time, series = to_microseconds(value_at), Series.objects.filter(device=device).values("pk")
    if LateRange.objects.filter(series__in=series, time_from__lte=time, time_to__gte=time).exists():
        return _step("the point came late or out of order and is evaluated as history within seconds")
    if rule.kind == "anomaly":
        return _step(
            "when the point arrived, its score was lower: the detector had learnt from other points than those that"
            " are stored now, or the point came late"
        )
    return _step(
        "the point came late or out of order, other points were stored or deleted since, or the alert was deleted;"
        " a value that arrives in order opens an alert"
    )


def format_time(at: datetime) -> str:
    """Return a time in the time zone of the page, in the API in UTC."""
    return f"{localtime(at):%Y-%m-%d %H:%M:%S %Z}"


def _step(detail: str) -> TraceStep:
    return TraceStep("Evaluation", "no", detail)


def _count_waiting_commits() -> int:
    heads, cursors = (model.objects.aggregate(total=Sum("seq"))["total"] or 0 for model in (Head, Cursor))
    return max(0, int(heads) - int(cursors))
