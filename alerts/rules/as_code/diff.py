"""A plan as lines of text: `+` is created, `~` is changed field by field, `-` is deleted."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from alerts.rules.as_code.fields import to_yaml_value
from alerts.rules.as_code.plan import ApplyPlan, ChangeKind, PlannedChange

_SIGNS = {ChangeKind.CREATE: "+", ChangeKind.CHANGE: "~", ChangeKind.DELETE: "-"}
_PARTICIPLES = {ChangeKind.CREATE: "created", ChangeKind.CHANGE: "changed", ChangeKind.DELETE: "deleted"}


def format_plan(plan: ApplyPlan) -> Iterator[str]:
    """Yield the lines of every change."""
    for change in plan.changes:
        yield f"{_SIGNS[change.kind]} {change.section.title(change.row)}"
        for name, (before, after) in change.fields.items():
            yield f"    {name}: {_format_change(change, name, before, after)}"


def format_summary(plan: ApplyPlan, *, done: bool) -> str:
    """Return the number of changes of each kind, as done or as planned."""
    counts = Counter(change.kind for change in plan.changes)
    parts = [f"{counts[kind]} {'' if done else 'to be '}{word}" for kind, word in _PARTICIPLES.items()]
    return f"{', '.join(parts)}, {plan.unchanged} unchanged"


def _format_change(change: PlannedChange, name: str, before: Any, after: Any) -> str:
    if name in change.section.secrets:
        return "(hidden)"
    if change.kind == ChangeKind.CREATE:
        return _format_value(after)
    return f"{_format_value(before)} → {_format_value(after)}"


def _format_value(value: Any) -> str:
    return json.dumps(to_yaml_value(value), ensure_ascii=False)
