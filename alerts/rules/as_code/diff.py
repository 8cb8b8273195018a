"""A plan in lines for people: `+` is made, `~` is changed field by field, `-` is deleted."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from alerts.rules.as_code.fields import as_written
from alerts.rules.as_code.plan import Change, Plan, Verb

_SIGNS = {Verb.CREATE: "+", Verb.CHANGE: "~", Verb.DELETE: "-"}


def lines(plan: Plan) -> Iterator[str]:
    """Every change."""
    for change in plan.changes:
        yield f"{_SIGNS[change.verb]} {change.section.title(change.row)}"
        for name, (before, after) in change.fields.items():
            yield f"    {name}: {_told(change, name, before, after)}"


def summary(plan: Plan, *, done: bool) -> str:
    """How many of each, in the words of what was done or would be."""
    counted = Counter(change.verb for change in plan.changes)
    words = {Verb.CREATE: "created", Verb.CHANGE: "changed", Verb.DELETE: "deleted"}
    told = [f"{counted[verb]} {'' if done else 'to be '}{word}" for verb, word in words.items()]
    return f"{', '.join(told)}, {plan.unchanged} unchanged"


def _told(change: Change, name: str, before: Any, after: Any) -> str:
    if name in change.section.secrets:
        return "(hidden)"
    if change.verb == Verb.CREATE:
        return _written(after)
    return f"{_written(before)} → {_written(after)}"


def _written(value: Any) -> str:
    return json.dumps(as_written(value), ensure_ascii=False)
