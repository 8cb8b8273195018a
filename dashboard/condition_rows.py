"""The rows of a rule of several conditions: each of them as texts in fields, and in the words of the API."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

from alerts.conditions.spec import MOST_CONDITIONS
from alerts.models import Condition, Kind
from dashboard import rule_choices
from dashboard.form_values import UNITS, number, seconds, split, threshold, written
from dashboard.forms import LONGEST_TEXT

Texts = dict[str, str]

LEAST = 2
TYPED = ("metric_name", "threshold_value", "clear_threshold", "horizon", "evaluation_window")  # the others are chosen


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in the fields of a condition, by their names in the API, and what is wrong with them."""

    texts: Texts
    errors: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_blank(self) -> bool:
        return not any(self.texts[name].strip() for name in TYPED)

    @property
    def aggregations(self) -> Iterable[tuple[str, str]]:
        return rule_choices.aggregations(self.texts["aggregation"])

    @property
    def duration(self) -> dict[str, tuple[str, int]]:
        units = {str(unit): unit for unit, _ in UNITS}
        return {
            name: (self.texts[name], units.get(self.texts[f"{name}_unit"], 1))
            for name in ("horizon", "evaluation_window")
        }


def shown(condition: Mapping[str, Any]) -> Row:
    """The row of a condition; what it does not say stands there as what it is then."""
    parameters = condition.get("parameters") or {}
    texts = {
        "kind": condition.get("kind", Kind.THRESHOLD.value),
        "metric_name": condition.get("metric_name"),
        "aggregation": condition.get("aggregation"),
        "measure": parameters.get("measure", "slope"),
        "condition": condition.get("condition", Condition.ABOVE.value),
        "threshold_value": condition.get("threshold_value"),
        "clear_threshold": condition.get("clear_threshold"),
    }
    for name, length in (
        ("horizon", parameters.get("horizon")),
        ("evaluation_window", condition.get("evaluation_window")),
    ):
        texts[name], texts[f"{name}_unit"] = split(length)
    return Row({name: written(value) for name, value in texts.items()})


def typed(given: QueryDict) -> list[Row]:
    """The rows of a form that are not blank."""
    columns = {name: given.getlist(f"c_{name}") for name in BLANK.texts}
    number_of = min(max(map(len, columns.values())), 2 * MOST_CONDITIONS)
    rows = [
        Row({
            name: (texts[at] if at < len(texts) else BLANK.texts[name]).replace("\0", "")[:LONGEST_TEXT]
            for name, texts in columns.items()
        })
        for at in range(number_of)
    ]  # fmt: skip
    return [row for row in rows if not row.is_blank]


def with_errors(rows: Sequence[Row], told: Mapping[str, list[str]]) -> list[Row]:
    """The same rows with what is wrong with each, which is told by names such as `conditions[1].horizon`; and at least
    one that is blank, as long as there may be more of them."""
    blank = max(LEAST - len(rows), 1 if len(rows) < MOST_CONDITIONS else 0)
    return [
        Row(row.texts, {name: told[place] for name in row.texts if (place := f"conditions[{at}].{name}") in told})
        for at, row in enumerate([*rows, *[BLANK] * blank])
    ]


def read(rows: Sequence[Row], before: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What the rows say. A row that reads like a condition of before is that condition, word by word."""
    found = []
    for at, row in enumerate(rows):
        same = [one for one in (*before[at : at + 1], *before) if shown(one).texts == row.texts]
        found.append(same[0] if same else _document(row.texts))
    return found


def _document(texts: Texts) -> dict[str, Any]:
    """What its kind asks for, of the fields of a row."""
    text = {name: words.strip() for name, words in texts.items()}
    kind = text["kind"]
    found: dict[str, Any] = {"kind": kind, "metric_name": text["metric_name"]}
    if kind == Kind.THRESHOLD and text["aggregation"]:
        found["aggregation"] = text["aggregation"]
    if kind == Kind.TREND:
        found["parameters"] = {"measure": text["measure"]}
    if kind == Kind.FORECAST:
        found["parameters"] = {"horizon": seconds(text["horizon"], text["horizon_unit"])}
    if kind != Kind.ANOMALY:
        found |= {"condition": text["condition"], "threshold_value": threshold(text["threshold_value"])}
        if text["clear_threshold"]:
            found["clear_threshold"] = number(text["clear_threshold"])
    if text["evaluation_window"]:
        found["evaluation_window"] = seconds(text["evaluation_window"], text["evaluation_window_unit"])
    return found


BLANK = shown({})
