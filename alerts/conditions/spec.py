"""What a rule judges by, read from the document that its fields are: checked, and in units of evaluation.

Pure: no Django, no database. Every refusal names the field and what is accepted.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from metrics.query.accumulators import ACCEPTED_AGGREGATIONS, ACCUMULATORS, parse_percentile
from metrics.storage.format.codec import Kind
from rest.errors import InvalidFields

SECOND: Final = 1_000_000  # µs
OPERATORS: Final = (">", "<", ">=", "<=", "==", "!=")
KINDS: Final = ("threshold", "trend", "anomaly", "absence", "forecast", "composite")
PARTS: Final = ("threshold", "trend", "anomaly", "forecast")  # what a condition of a composite may be
MEASURES: Final = ("slope", "rate", "relative")
ANY_METRIC: Final = "*"
MOST_CONDITIONS: Final = 8
LONGEST: Final = 7 * 86_400  # seconds of a window
LONGEST_HORIZON: Final = 30 * 86_400  # seconds
GRACE: Final = 2.0  # seconds that a measurement may be late by

Threshold = float | str | bool


class BadRule(InvalidFields):
    """A rule that cannot be evaluated."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the values of one metric are judged.

    kind         one of PARTS
    threshold    number; text or truth value with == and != alone; None where the kind needs none (anomaly)
    clear        the value has to be on the well side of this one to be well again; None: of the threshold
    aggregation  of the values in the window; empty: each value by itself
    window       µs
    measure      of a trend: slope (a second, least squares), rate (a second, first to last), relative (share)
    horizon      of a forecast: µs
    """

    metric: str
    kind: str
    op: str
    threshold: Threshold | None
    clear: float | None
    aggregation: str
    window: int
    measure: str = "slope"
    horizon: int = 0

    def takes(self, kind: Kind) -> bool:
        """Whether it is about values of this kind."""
        if isinstance(self.threshold, bool):
            return kind is Kind.BOOLEAN
        return kind is (Kind.STRING if isinstance(self.threshold, str) else Kind.NUMERIC)

    @property
    def needs_window(self) -> bool:
        """Whether values before those to be judged are needed."""
        return self.kind in ("trend", "forecast") or bool(self.aggregation)

    @property
    def is_low(self) -> bool:
        """Whether values are the worse the lower they are."""
        return self.kind != "anomaly" and self.op in ("<", "<=")


@dataclass(frozen=True, slots=True)
class Spec:
    """A rule as it is evaluated; all times in µs.

    conditions  one, or those of a composite; none with absence
    every       of a composite: whether all of them have to hold, else one
    expected    of absence: the time between measurements; None: as the device says
    grace       of absence: what may be added to that
    timeout     None: an alert is never closed by time alone
    """

    kind: str
    metric: str
    conditions: tuple[Comparison, ...]
    window: int
    trigger_count: int
    cooldown: int
    auto_resolve: bool
    timeout: int | None
    every: bool = True
    expected: int | None = None
    grace: int = int(GRACE * SECOND)

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics whose points it judges."""
        return frozenset(one.metric for one in self.conditions)

    @property
    def lookback(self) -> int:
        """How much of what was measured before is needed to judge a value, in µs."""
        windows = [one.window for one in self.conditions if one.needs_window or self.kind == "composite"]
        counted = self.window if self.trigger_count > 1 else 0
        return counted + max(windows, default=0)


def read_spec(document: Mapping[str, Any]) -> Spec:
    """The spec of a rule's fields, in the words of the API. Raises BadRule with everything that is wrong."""
    reader = _Reader(document)
    spec = reader.spec()
    if reader.errors:
        raise BadRule(reader.errors)
    return spec


class _Reader:
    """Reads a document, and remembers what was wrong."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.errors: list[tuple[str, str]] = []

    def spec(self) -> Spec:
        given = self.document
        kind = self._word("kind", given.get("kind") or "threshold", KINDS)
        parameters = self._object("parameters", given.get("parameters"))
        self._known(parameters, kind)
        timeout = given.get("auto_resolve_timeout")
        return Spec(
            kind=kind,
            metric=str(given.get("metric_name") or ""),
            conditions=tuple(self._conditions(kind, parameters)),
            window=self._seconds("evaluation_window", given.get("evaluation_window", 300), LONGEST),
            trigger_count=int(given.get("trigger_count") or 1),
            cooldown=int(given.get("cooldown_minutes") or 0) * 60 * SECOND,
            auto_resolve=bool(given.get("auto_resolve", True)),
            timeout=None if timeout is None else int(timeout) * SECOND,
            every=self._word("parameters.operator", parameters.get("operator", "and"), ("and", "or")) == "and",
            expected=self._optional("parameters.expected_interval", parameters.get("expected_interval"), LONGEST),
            grace=self._optional("parameters.grace", parameters.get("grace", GRACE), 86_400, least=0) or 0,
        )

    def _conditions(self, kind: str, parameters: Mapping[str, Any]) -> Iterator[Comparison]:
        if kind == "absence":
            return
        if self.document.get("metric_name") == ANY_METRIC:
            self._wrong("metric_name", f"{ANY_METRIC} (any metric) is for absence")
        if kind != "composite":
            yield self._comparison(self.document, kind, parameters, "")
            return
        given = parameters.get("conditions")
        if not isinstance(given, list) or not 2 <= len(given) <= MOST_CONDITIONS:
            self._wrong("parameters.conditions", f"a list of 2 to {MOST_CONDITIONS} conditions is accepted")
            return
        for number, one in enumerate(given):
            place = f"parameters.conditions[{number}]."
            if not isinstance(one, Mapping):
                self._wrong(place.rstrip("."), "an object is accepted")
                continue
            inner = self._word(f"{place}kind", one.get("kind", "threshold"), PARTS)
            whole = {"evaluation_window": self.document.get("evaluation_window", 300)} | dict(one)
            yield self._comparison(whole, inner, self._object(f"{place}parameters", one.get("parameters")), place)

    def _comparison(self, given: Mapping[str, Any], kind: str, parameters: Mapping[str, Any], place: str) -> Comparison:
        op = self._word(f"{place}condition", given.get("condition", ">"), OPERATORS)
        metric = given.get("metric_name")
        if not isinstance(metric, str) or not metric:
            self._wrong(f"{place}metric_name", "the name of a metric is accepted")
        aggregation = str(given.get("aggregation") or "")
        if aggregation and (
            kind != "threshold" or (aggregation not in ACCUMULATORS and parse_percentile(aggregation) is None)
        ):
            told = ACCEPTED_AGGREGATIONS if kind == "threshold" else "nothing, since it is for thresholds"
            self._wrong(f"{place}aggregation", f"{aggregation!r:.60} is not known here; accepted are {told}")
        threshold = self._threshold(given, kind, op, aggregation, place)
        horizon = 0
        if kind == "forecast":
            horizon = self._seconds(f"{place}parameters.horizon", parameters.get("horizon"), LONGEST_HORIZON)
        return Comparison(
            metric=str(metric),
            kind=kind,
            op=op,
            threshold=threshold,
            clear=self._clear(given, op, threshold, place),
            aggregation=aggregation,
            window=self._seconds(f"{place}evaluation_window", given.get("evaluation_window", 300), LONGEST),
            measure=self._word(f"{place}parameters.measure", parameters.get("measure", "slope"), MEASURES),
            horizon=horizon,
        )

    def _threshold(
        self, given: Mapping[str, Any], kind: str, op: str, aggregation: str, place: str
    ) -> Threshold | None:
        if kind == "anomaly":
            return None
        field, value = f"{place}threshold_value", given.get("threshold_value")
        if isinstance(value, (str, bool)):
            if kind != "threshold" or aggregation or op not in ("==", "!="):
                self._wrong(
                    field, "a text or truth value is compared as it is, with == or !=; else a number is accepted"
                )
            return value
        if not _is_number(value):
            self._wrong(field, "a number is accepted, or with == and != a text or truth value")
            return 0.0
        return float(value)

    def _clear(self, given: Mapping[str, Any], op: str, threshold: Threshold | None, place: str) -> float | None:
        field, value = f"{place}clear_threshold", given.get("clear_threshold")
        if value is None:
            return None
        if not _is_number(value):
            self._wrong(field, "a number is accepted")
            return None
        if op in ("==", "!=") or isinstance(threshold, (str, bool)) or threshold is None:
            self._wrong(field, "is for >, >=, < and <= with a number")
        elif (value > threshold) if op in (">", ">=") else (value < threshold):
            side = "above" if op in (">", ">=") else "below"
            self._wrong(field, f"must not be {side} threshold_value, or nothing would be well again")
        return float(value)

    def _known(self, parameters: Mapping[str, Any], kind: str) -> None:
        accepted = _PARAMETERS[kind]
        for name in sorted(set(map(str, parameters)) - accepted):
            told = ", ".join(sorted(accepted)) or "none"
            self._wrong(f"parameters.{name}", f"is not known with {kind}; accepted are: {told}")

    def _object(self, field: str, value: Any) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        if value is not None:
            self._wrong(field, "an object is accepted")
        return {}

    def _word(self, field: str, value: Any, accepted: tuple[str, ...]) -> str:
        if value not in accepted:
            self._wrong(field, f"{value!r:.60} is not known; {', '.join(accepted)} are accepted")
            return accepted[0]
        return str(value)

    def _optional(self, field: str, value: Any, longest: int, least: float = 1) -> int | None:
        return None if value is None else self._seconds(field, value, longest, least)

    def _seconds(self, field: str, value: Any, longest: int, least: float = 1) -> int:
        """µs of a number of seconds."""
        if not _is_number(value) or not least <= value <= longest:
            self._wrong(field, f"{least:g} to {longest:,} seconds are accepted")
            return SECOND
        return int(value * SECOND)

    def _wrong(self, field: str, detail: str) -> None:
        self.errors.append((field, detail))


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a number that evaluation can hold; whole numbers of a document may be larger than any of those."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


_PARAMETERS: Final[dict[str, frozenset[str]]] = {
    "threshold": frozenset(),
    "trend": frozenset({"measure"}),
    "anomaly": frozenset(),
    "absence": frozenset({"expected_interval", "grace"}),
    "forecast": frozenset({"horizon"}),
    "composite": frozenset({"operator", "conditions"}),
}
