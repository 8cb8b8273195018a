"""The specification of a rule for evaluation, read and validated from the rule's fields.

Pure: no Django, no database. Every error names the field and the accepted values.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

from alerts.detector.sensitivity import SENSITIVITIES, Sensitivity
from metrics.query.accumulators import ACCEPTED_AGGREGATIONS, ACCUMULATORS, parse_percentile
from metrics.storage.format.codec import Kind
from rest.errors import InvalidFields

SECOND = 1_000_000  # µs
OPERATORS = (">", "<", ">=", "<=", "==", "!=")
KINDS = ("threshold", "trend", "anomaly", "absence", "forecast", "composite")
CONDITION_KINDS = ("threshold", "trend", "anomaly", "forecast")  # of the conditions of a composite
MEASURES = ("slope", "rate", "relative")
ANY_METRIC = "*"
MAX_CONDITIONS = 8
MAX_WINDOW = 7 * 86_400  # seconds
MAX_HORIZON = 30 * 86_400  # seconds
MAX_GRACE = 86_400  # seconds
DEFAULT_GRACE = 2.0  # seconds

Threshold = float | str | bool
Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """A condition on the values of one metric.

    kind                one of CONDITION_KINDS
    threshold           a number; a text or boolean only with == and !=; None for an anomaly
    recovery_threshold  a value has to be on the other side of it to be recovered; None: of the threshold
    aggregation         of the values in the window; empty: each value by itself
    window              µs
    measure             of a trend: slope (per second, least squares), rate (per second, first to last), relative
    horizon             of a forecast: µs
    sensitivity         of an anomaly: calm, normal, keen
    """

    metric: str
    kind: str
    op: str
    threshold: Threshold | None
    recovery_threshold: float | None
    aggregation: str
    window: int
    measure: str = "slope"
    horizon: int = 0
    sensitivity: Sensitivity = "normal"

    def accepts(self, kind: Kind) -> bool:
        """Whether the condition applies to series with values of this kind."""
        if isinstance(self.threshold, bool):
            return kind is Kind.BOOLEAN
        return kind is (Kind.STRING if isinstance(self.threshold, str) else Kind.NUMERIC)

    @property
    def needs_window(self) -> bool:
        """Whether earlier values are needed to evaluate a value."""
        return self.kind in ("trend", "forecast") or bool(self.aggregation)

    @property
    def is_low(self) -> bool:
        """Whether low values breach the condition."""
        return self.kind != "anomaly" and self.op in ("<", "<=")


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A rule as it is evaluated; all times in µs.

    conditions  one; of a composite several; of an absence rule none
    every       of a composite: whether all conditions have to be met, or any
    expected    of absence: time between points; None: the device's expected interval
    grace       of absence: added to the expected time
    timeout     time without a breach after which an alert is resolved; None: never
    """

    kind: str
    metric: str
    conditions: tuple[ConditionSpec, ...]
    window: int
    trigger_count: int
    cooldown: int
    auto_resolve: bool
    timeout: int | None
    every: bool = True
    expected: int | None = None
    grace: int = int(DEFAULT_GRACE * SECOND)

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics that the conditions are about."""
        return frozenset(condition.metric for condition in self.conditions)

    @property
    def lookback(self) -> int:
        """How long before a value the points begin that its evaluation needs, µs."""
        is_composite = self.kind == "composite"
        windows = [condition.window for condition in self.conditions if condition.needs_window or is_composite]
        return (self.window if self.trigger_count > 1 else 0) + max(windows, default=0)


def read_spec(document: Mapping[str, Any]) -> RuleSpec:
    """Return the spec of a rule's fields, named as in the API. Raises InvalidFields with every error."""
    reader = _SpecReader(document)
    spec = reader.read()
    if reader.errors:
        raise InvalidFields(reader.errors)
    return spec


class _SpecReader:
    """Reads a document and collects errors (field, detail)."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.errors: list[tuple[str, str]] = []

    def read(self) -> RuleSpec:
        fields = self.document
        kind = self._choice("kind", fields.get("kind") or "threshold", KINDS)
        parameters = self._object("parameters", fields.get("parameters"))
        self._reject_unknown(parameters, kind)
        timeout = fields.get("auto_resolve_timeout")
        expected = parameters.get("expected_interval")
        grace = parameters.get("grace", DEFAULT_GRACE)
        return RuleSpec(
            kind=kind,
            metric=str(fields.get("metric_name") or ""),
            conditions=tuple(self._conditions(kind, parameters)),
            window=self._seconds("evaluation_window", fields.get("evaluation_window", 300), MAX_WINDOW),
            trigger_count=int(fields.get("trigger_count") or 1),
            cooldown=int(fields.get("cooldown_minutes") or 0) * 60 * SECOND,
            auto_resolve=bool(fields.get("auto_resolve", True)),
            timeout=None if timeout is None else int(timeout) * SECOND,
            every=self._choice("parameters.operator", parameters.get("operator", "and"), ("and", "or")) == "and",
            expected=self._optional_seconds("parameters.expected_interval", expected, MAX_WINDOW),
            grace=self._optional_seconds("parameters.grace", grace, MAX_GRACE, minimum=0) or 0,
        )

    def _conditions(self, kind: str, parameters: Mapping[str, Any]) -> Iterator[ConditionSpec]:
        if kind == "absence":
            return
        if self.document.get("metric_name") == ANY_METRIC:
            self._error("metric_name", f"{ANY_METRIC} (any metric) is accepted for absence rules only")
        if kind != "composite":
            yield self._condition(self.document, kind, parameters, "")
            return
        conditions = parameters.get("conditions")
        if not isinstance(conditions, list) or not 2 <= len(conditions) <= MAX_CONDITIONS:
            self._error("parameters.conditions", f"a list of 2 to {MAX_CONDITIONS} conditions is accepted")
            return
        for number, fields in enumerate(conditions):
            path = f"parameters.conditions[{number}]"
            if not isinstance(fields, Mapping):
                self._error(path, "an object is accepted")
                continue
            condition_kind = self._choice(f"{path}.kind", fields.get("kind", "threshold"), CONDITION_KINDS)
            with_window = {"evaluation_window": self.document.get("evaluation_window", 300)} | dict(fields)
            condition_parameters = self._object(f"{path}.parameters", fields.get("parameters"))
            yield self._condition(with_window, condition_kind, condition_parameters, f"{path}.")

    def _condition(
        self, fields: Mapping[str, Any], kind: str, parameters: Mapping[str, Any], prefix: str
    ) -> ConditionSpec:
        op = self._choice(f"{prefix}condition", fields.get("condition", ">"), OPERATORS)
        metric = fields.get("metric_name")
        if not isinstance(metric, str) or not metric:
            self._error(f"{prefix}metric_name", "the name of a metric is accepted")
        aggregation = self._aggregation(fields, kind, prefix)
        threshold = self._threshold(fields, kind, op, aggregation, prefix)
        horizon = 0
        if kind == "forecast":
            horizon = self._seconds(f"{prefix}parameters.horizon", parameters.get("horizon"), MAX_HORIZON)
        return ConditionSpec(
            metric=str(metric),
            kind=kind,
            op=op,
            threshold=threshold,
            recovery_threshold=self._recovery_threshold(fields, op, threshold, prefix),
            aggregation=aggregation,
            window=self._seconds(f"{prefix}evaluation_window", fields.get("evaluation_window", 300), MAX_WINDOW),
            measure=self._choice(f"{prefix}parameters.measure", parameters.get("measure", "slope"), MEASURES),
            horizon=horizon,
            sensitivity=self._choice(
                f"{prefix}parameters.sensitivity", parameters.get("sensitivity", "normal"), SENSITIVITIES
            ),
        )

    def _aggregation(self, fields: Mapping[str, Any], kind: str, prefix: str) -> str:
        field, aggregation = f"{prefix}aggregation", str(fields.get("aggregation") or "")
        if not aggregation:
            return ""
        if kind != "threshold":
            self._error(field, f"no aggregation is accepted for kind {kind}; only for threshold")
        elif aggregation not in ACCUMULATORS and parse_percentile(aggregation) is None:
            self._error(field, f"{aggregation!r:.60} is unknown; accepted are {ACCEPTED_AGGREGATIONS}")
        return aggregation

    def _threshold(
        self, fields: Mapping[str, Any], kind: str, op: str, aggregation: str, prefix: str
    ) -> Threshold | None:
        if kind == "anomaly":
            return None
        field, value = f"{prefix}threshold_value", fields.get("threshold_value")
        if isinstance(value, (str, bool)):
            if kind != "threshold" or aggregation or op not in ("==", "!="):
                self._error(
                    field,
                    "a text or boolean is accepted for kind threshold with == or != and no aggregation; else a number",
                )
            return value
        if not _is_number(value):
            self._error(field, "a number is accepted; with == and != also a text or boolean")
            return 0.0
        return float(value)

    def _recovery_threshold(
        self, fields: Mapping[str, Any], op: str, threshold: Threshold | None, prefix: str
    ) -> float | None:
        field, value = f"{prefix}clear_threshold", fields.get("clear_threshold")
        if value is None:
            return None
        if not _is_number(value):
            self._error(field, "a number is accepted")
            return None
        if op in ("==", "!=") or isinstance(threshold, (str, bool)) or threshold is None:
            self._error(field, "is accepted for >, >=, < and <= with a numeric threshold_value only")
        elif (value > threshold) if op in (">", ">=") else (value < threshold):
            side = "above" if op in (">", ">=") else "below"
            self._error(field, f"must not be {side} threshold_value")
        return float(value)

    def _reject_unknown(self, parameters: Mapping[str, Any], kind: str) -> None:
        accepted = _PARAMETERS[kind]
        for name in sorted(set(map(str, parameters)) - accepted):
            names = ", ".join(sorted(accepted)) or "none"
            self._error(f"parameters.{name}", f"is unknown for kind {kind}; accepted are: {names}")

    def _object(self, field: str, value: Any) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        if value is not None:
            self._error(field, "an object is accepted")
        return {}

    def _choice(self, field: str, value: Any, accepted: tuple[Name, ...]) -> Name:
        if value not in accepted:
            self._error(field, f"{value!r:.60} is unknown; accepted are {', '.join(accepted)}")
            return accepted[0]
        return accepted[accepted.index(value)]

    def _optional_seconds(self, field: str, value: Any, maximum: int, minimum: float = 1) -> int | None:
        return None if value is None else self._seconds(field, value, maximum, minimum)

    def _seconds(self, field: str, value: Any, maximum: int, minimum: float = 1) -> int:
        """Return a number of seconds in µs."""
        if not _is_number(value) or not minimum <= value <= maximum:
            self._error(field, f"{minimum:g} to {maximum:,} seconds are accepted")
            return SECOND
        return int(value * SECOND)

    def _error(self, field: str, detail: str) -> None:
        self.errors.append((field, detail))


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a number within the range of float64. Integers in JSON can be larger."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


_PARAMETERS: dict[str, frozenset[str]] = {
    "threshold": frozenset(),
    "trend": frozenset({"measure"}),
    "anomaly": frozenset({"sensitivity"}),
    "absence": frozenset({"expected_interval", "grace"}),
    "forecast": frozenset({"horizon"}),
    "composite": frozenset({"operator", "conditions"}),
}
