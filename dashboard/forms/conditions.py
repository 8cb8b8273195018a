"""The conditions of a composite rule: a row of inputs for each."""

from collections.abc import Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from django import forms

from alerts.conditions.spec import MAX_CONDITIONS
from alerts.models import Condition, RuleKind
from dashboard import rule_words
from dashboard.forms.fields import (
    MAX_TEXT_LENGTH,
    VERBATIM,
    DurationFormField,
    DurationWidget,
    NumberFormField,
    OpenChoiceFormField,
    PageForm,
    TextFormField,
    ThresholdFormField,
)

Texts = dict[str, str]  # the texts of a row's inputs, by name without prefix

DEFAULT_SENSITIVITY = "normal"  # is not stored
TYPED = ("metric_name", "threshold_value", "clear_threshold", "horizon", "evaluation_window")  # the others are selects


class ConditionFields(PageForm):
    """The inputs that a condition of a composite rule and a rule with one condition have."""

    aggregation = OpenChoiceFormField("Aggregation")
    measure = OpenChoiceFormField("Trend measure", rule_words.MEASURES, initial="slope")
    metric_name = TextFormField(
        "Metric", "input name", list="metric-names", placeholder="metric", aria_label="Metric", **VERBATIM
    )
    condition = OpenChoiceFormField("Comparison", rule_words.COMPARISONS)
    threshold_value = ThresholdFormField("Threshold", "input limit", placeholder="value", aria_label="Threshold")
    horizon = DurationFormField("Forecast horizon")
    sensitivity = OpenChoiceFormField("Sensitivity", rule_words.SENSITIVITIES, initial=DEFAULT_SENSITIVITY)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.offer("aggregation", rule_words.AGGREGATIONS)


class ConditionForm(ConditionFields):
    """One condition. Its inputs are posted as lists: `c_kind`, `c_metric_name`, …."""

    kind = OpenChoiceFormField("Kind of condition", rule_words.CONDITION_KINDS)
    evaluation_window = DurationFormField("Evaluation window", "same")
    clear_threshold = NumberFormField(
        "Recovery threshold", "input tiny", inputmode="decimal", placeholder="same", aria_label="Recovery threshold"
    )

    def __init__(self, texts: Texts) -> None:
        super().__init__({self.add_prefix(name): text for name, text in texts.items()}, auto_id=False)
        self.texts = texts

    def add_prefix(self, field_name: str) -> str:
        return f"c_{field_name}"

    @property
    def is_blank(self) -> bool:
        return not any(self.texts[name].strip() for name in TYPED)

    def document(self) -> dict[str, Any]:
        """Return the condition as the API takes it: the fields of its kind."""
        self.is_valid()  # values that cannot be read are left out
        values = self.cleaned_data
        kind = values["kind"]
        document: dict[str, Any] = {"kind": kind, "metric_name": values["metric_name"]}
        if kind == RuleKind.THRESHOLD and values["aggregation"]:
            document["aggregation"] = values["aggregation"]
        if kind == RuleKind.TREND:
            document["parameters"] = {"measure": values["measure"]}
        if kind == RuleKind.FORECAST:
            document["parameters"] = {"horizon": values.get("horizon")}
        if kind == RuleKind.ANOMALY and values["sensitivity"] not in ("", DEFAULT_SENSITIVITY):
            document["parameters"] = {"sensitivity": values["sensitivity"]}
        if kind != RuleKind.ANOMALY:
            document |= {"condition": values["condition"], "threshold_value": values.get("threshold_value")}
            if values.get("clear_threshold") is not None:
                document["clear_threshold"] = values["clear_threshold"]
        if values.get("evaluation_window") is not None:
            document["evaluation_window"] = values["evaluation_window"]
        return document


class ConditionsWidget(forms.Widget):
    """The rows of conditions; their value is the texts of each row that is not blank."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[Texts]:
        columns = (data.getlist(f"c_{column}") for column in BLANK)
        rows = [
            {
                column: (default if text is None else text).replace("\0", "")[:MAX_TEXT_LENGTH]
                for (column, default), text in zip(BLANK.items(), row, strict=True)
            }
            for row in islice(zip_longest(*columns), 2 * MAX_CONDITIONS)
        ]
        return [texts for texts in rows if not ConditionForm(texts).is_blank]


class ConditionsFormField(forms.Field):
    """The texts of the conditions; ConditionForm reads them."""

    widget = ConditionsWidget


def condition_texts(condition: Mapping[str, Any]) -> Texts:
    """Return the texts of the inputs of a condition; missing fields get their defaults."""
    parameters = condition.get("parameters") or {}
    texts = {
        "kind": condition.get("kind", RuleKind.THRESHOLD.value),
        "metric_name": condition.get("metric_name"),
        "aggregation": condition.get("aggregation"),
        "measure": parameters.get("measure", "slope"),
        "sensitivity": parameters.get("sensitivity", DEFAULT_SENSITIVITY),
        "condition": condition.get("condition", Condition.ABOVE.value),
        "threshold_value": condition.get("threshold_value"),
        "clear_threshold": condition.get("clear_threshold"),
    }
    durations = {"horizon": parameters.get("horizon"), "evaluation_window": condition.get("evaluation_window")}
    for name, seconds in durations.items():
        texts[name], texts[f"{name}_unit"] = DurationWidget().decompress(seconds)
    return {name: _text(value) for name, value in texts.items()}


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def documents_of(rows: Sequence[ConditionForm], saved: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the conditions of the rows. A row that was not edited keeps its saved condition word by word."""
    documents = []
    for number, row in enumerate(rows):
        candidates = (*saved[number : number + 1], *saved)
        unedited = next((condition for condition in candidates if condition_texts(condition) == row.texts), None)
        documents.append(row.document() if unedited is None else unedited)
    return documents


BLANK = condition_texts({})
