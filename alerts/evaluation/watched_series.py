"""Which series are watched by which rules, laid out so that a commit of thousands of points is looked through at once.

Series are learnt as their points come: of a million that no rule is about, a number each is all that is held.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alerts.conditions.alert_lifecycle import NEVER
from alerts.conditions.composite import Joined
from alerts.conditions.spec import BadRule
from alerts.evaluation.restore_state import Restored
from alerts.evaluation.rule_series_state import Input, Key, Subject, Watched
from alerts.models import Rule
from alerts.rules.lifecycle import spec_of
from metrics.models import Device
from metrics.query.accumulators import Floats, Ints
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Kind

UNKNOWN, UNWATCHED = -2, -1
_BELOW, _EQUAL, _ABOVE = 1, 2, 4
_BREACHES = {
    ">": _ABOVE,
    "<": _BELOW,
    ">=": _ABOVE | _EQUAL,
    "<=": _BELOW | _EQUAL,
    "==": _EQUAL,
    "!=": _BELOW | _ABOVE,
}
_NAMES = """
SELECT s.id, s.kind, s.metric_name, d.id, d.device_id FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
WHERE s.id = ANY(%s)
"""


def watched_rules() -> tuple[list[Watched], dict[int, str]]:
    """The rules that are to be evaluated; and by primary key why some of them cannot be."""
    rules = list(Rule.objects.filter(enabled=True, suspended=""))
    members = _members({name for rule in rules for name in rule.device_groups})
    found, broken = [], {}
    for rule in rules:
        try:
            spec = spec_of(rule)
        except BadRule as error:
            broken[rule.pk] = str(error)
            continue
        if rule.device_ids or rule.device_groups:
            within = frozenset[int]().union(*(members.get(name, ()) for name in rule.device_groups))
            found.append(Watched(rule, spec, frozenset(rule.device_ids), within))
        else:
            found.append(Watched(rule, spec, None, None))
    return found, broken


def _members(groups: set[str]) -> dict[str, set[int]]:
    """The devices, by primary key, of each of these groups."""
    found: dict[str, set[int]] = {}
    membership = Device.groups.through.objects.filter(devicegroup__name__in=groups)
    for name, device in membership.values_list("devicegroup__name", "device_id").iterator():
        found.setdefault(name, set()).add(device)
    return found


class Source(NamedTuple):
    """A series is what a subject's condition at a place is about."""

    subject: Subject
    place: int


class Plain:
    """Subjects whose numbers say by themselves whether they are a breach, as columns.

    Most of what comes is well and finds nothing open: that is told for all of them at once.
    """

    def __init__(self) -> None:
        self.subjects: list[Subject] = []
        self.breaches: NDArray[np.uint8] = np.empty(0, np.uint8)  # which of below, equal and above are
        self.thresholds: Floats = np.empty(0)
        self.watermarks: Ints = np.empty(0, np.int64)
        self.open: NDArray[np.bool_] = np.empty(0, np.bool_)

    def add(self, subjects: Sequence[Subject]) -> None:
        for place, subject in enumerate(subjects, len(self.subjects)):
            subject.place = place
        comparisons = [subject.inputs[0].comparison for subject in subjects]
        self.subjects += subjects
        self.breaches = np.append(self.breaches, np.array([_BREACHES[one.op] for one in comparisons], np.uint8))
        self.thresholds = np.append(self.thresholds, [float(one.threshold or 0) for one in comparisons])
        self.watermarks = np.append(self.watermarks, [subject.inputs[0].watermark for subject in subjects])
        self.open = np.append(self.open, [subject.standing.is_open for subject in subjects])

    def settle(self, subject: Subject) -> None:
        """Take over what was judged of a subject by itself."""
        self.watermarks[subject.place] = subject.inputs[0].watermark
        self.open[subject.place] = subject.standing.is_open

    def look(self, places: Ints, first: Ints, last: Ints, low: Floats, high: Floats, oldest: int) -> NDArray[np.bool_]:
        """Which of these subjects have to be judged one by one: those with a breach among their new points, with an
        open alert, or with points that are out of order or from before `oldest` (µs). The watermarks of all others
        are moved on.

        For each: the first and last time, the least and greatest value of its new points.
        """
        threshold, breaches = self.thresholds[places], self.breaches[places]
        found = (high > threshold) * np.uint8(_ABOVE) | (low < threshold) * np.uint8(_BELOW)
        found |= ((low <= threshold) & (high >= threshold)) * np.uint8(_EQUAL)
        needed: NDArray[np.bool_] = (found & breaches) != 0
        needed |= self.open[places] | (first <= self.watermarks[places]) | (first < oldest)
        self.watermarks[places[~needed]] = last[~needed]
        return needed


class Watch:
    """The rules of a moment, and the series that they are about. What was known `before` of the same is kept."""

    def __init__(
        self, rules: Sequence[Watched], restored: Restored | None = None, before: "Watch | None" = None
    ) -> None:
        self.rules = rules
        self._restored = restored or Restored({}, {})
        self.subjects: dict[Key, Subject] = {}
        self.plain = Plain()
        self.others: list[list[Source]] = []  # by slot
        self._before = before.kept() if before is not None else {}
        self._by_metric: dict[str, list[Watched]] = {}
        for one in rules:
            for metric in one.spec.metrics:
                self._by_metric.setdefault(metric, []).append(one)
        self._slots: NDArray[np.int32] = np.full(4096, UNKNOWN, np.int32)
        self._first: Ints = np.empty(0, np.int64)  # by slot: where its plain subjects begin…
        self._count: Ints = np.empty(0, np.int64)  # … and how many there are

    def kept(self) -> dict[Key, Subject]:
        """Every subject, up to date."""
        for subject, watermark in zip(self.plain.subjects, self.plain.watermarks.tolist(), strict=True):
            subject.inputs[0].watermark, subject.place = watermark, -1
        return self.subjects

    def close(self, subject: Subject) -> None:
        """Somebody has resolved the alert of a subject: breaches up to now count no more."""
        if subject.place >= 0:
            subject.inputs[0].watermark = int(self.plain.watermarks[subject.place])
        judged = max((one.watermark for one in subject.inputs.values()), default=NEVER)
        subject.alert, subject.standing.is_open = None, False
        subject.standing.ended = max(subject.standing.ended, judged)
        if subject.place >= 0:
            self.plain.settle(subject)

    def complete(self, connection: Connection, subject: Subject) -> None:
        """See to it that a composite has all inputs that its device has, whatever came of them lately."""
        metrics = list(subject.watched.spec.metrics)
        rows = connection.execute(
            "SELECT id FROM metrics_series WHERE device_id = %s AND metric_name = ANY(%s) ORDER BY id",
            (subject.device, metrics),
        ).fetchall()
        self.slots(connection, np.array([number for (number,) in rows], np.int64))

    def series(self, connection: Connection) -> Ints:
        """Every series that a rule is about, ascending."""
        rows = connection.execute("SELECT id FROM metrics_series WHERE metric_name = ANY(%s)", (list(self._by_metric),))
        found = np.array([number for (number,) in rows], np.int64)
        found.sort()
        return found[self.slots(connection, found) >= 0] if len(found) else found

    def detected(self, connection: Connection, series: Ints) -> set[int]:
        """Those of some series (ascending) whose anomalies a rule is about."""
        found = set()
        slots = self.slots(connection, series).tolist() if len(series) else []
        for number, slot in zip(series.tolist(), slots, strict=True):
            sources = self.others[slot] if slot >= 0 else ()
            if any(source.subject.inputs[source.place].comparison.kind == "anomaly" for source in sources):
                found.add(number)
        return found

    def plain_of(self, slots: NDArray[np.int32]) -> tuple[Ints, Ints]:
        """Of slots: (which of them, a plain subject's place) for every plain subject that they have."""
        counts = self._count[slots]
        which = np.repeat(np.arange(len(slots)), counts)
        within = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return which, self._first[slots][which] + within

    def slots(self, connection: Connection, ids: Ints) -> NDArray[np.int32]:
        """The slot of each of these series (ascending), UNWATCHED where no rule is about it."""
        if int(ids[-1]) >= len(self._slots):
            grown = np.full(max(2 * len(self._slots), int(ids[-1]) + 1), UNKNOWN, np.int32)
            grown[: len(self._slots)] = self._slots
            self._slots = grown
        found = self._slots[ids]
        unknown = ids[found == UNKNOWN]
        if len(unknown):
            self._learn(connection, unknown)
            found = self._slots[ids]
        return found

    def _learn(self, connection: Connection, ids: Ints) -> None:
        self._slots[ids] = UNWATCHED
        plain: list[Subject] = []
        first, count = [], []
        for series, kind, metric, device, device_id in connection.execute(_NAMES, (ids.tolist(),)):
            sources = list(self._sources(series, Kind(kind), metric, device, device_id))
            if not sources:
                continue
            self._slots[series] = len(self.others)
            mine = [source.subject for source in sources if source.subject.is_plain]
            self.others.append([source for source in sources if not source.subject.is_plain])
            first.append(len(self.plain.subjects) + len(plain))
            count.append(len(mine))
            plain += mine
        self.plain.add(plain)
        self._first, self._count = np.append(self._first, first).astype(int), np.append(self._count, count).astype(int)

    def _sources(self, series: int, kind: Kind, metric: str, device: int, device_id: str) -> Iterator[Source]:
        for watched in self._by_metric.get(metric, ()):
            if not watched.covers(device, device_id):
                continue
            for place, comparison in enumerate(watched.spec.conditions):
                if comparison.metric == metric and comparison.takes(kind):
                    subject = self._subject(watched, device, device_id)
                    held = subject.inputs.get(place)
                    if held is None or held.series != series:
                        subject.inputs[place] = Input(comparison, series)
                        subject.is_warm = False
                    yield Source(subject, place)

    def _subject(self, watched: Watched, device: int, device_id: str) -> Subject:
        rule, composite = watched.rule, watched.spec.kind == "composite"
        key = rule.pk, device, rule.metric_name
        if key in self.subjects:
            return self.subjects[key]
        subject = self._before.get(key)
        if subject is None or subject.watched.rule.version != rule.version:
            subject = Subject(watched, device, device_id, rule.metric_name)
            subject.joined = Joined() if composite else None
            self._restored.apply(subject)
        subject.watched = watched
        self.subjects[key] = subject
        return subject


def to_judge(
    watch: Watch, connection: Connection, columns: Columns, oldest: int
) -> tuple[list[tuple[Source, Ints, Floats]], int]:
    """What has to be judged one by one of some points, with the times and values of each; and how many are watched."""
    slots = watch.slots(connection, columns.ids)
    here = np.flatnonzero(slots >= 0)
    if not len(here):
        return [], 0
    found = list(_plain(watch, columns, here, slots[here], oldest)) if columns.is_numeric else []
    found += [
        (source, *_points(columns, at, source))
        for at, slot in zip(here.tolist(), slots[here].tolist(), strict=True)
        for source in watch.others[slot]
    ]
    return found, int(np.diff(columns.offsets)[here].sum())


def _plain(
    watch: Watch, columns: Columns, here: Ints, slots: NDArray[np.int32], oldest: int
) -> Iterator[tuple[Source, Ints, Floats]]:
    which, places = watch.plain_of(slots)
    if not len(which):
        return
    starts = columns.offsets[:-1]
    low, high = (fold.reduceat(columns.values, starts)[here][which] for fold in (np.minimum, np.maximum))
    first, last = columns.times[starts[here]][which], columns.times[columns.offsets[1:][here] - 1][which]
    needed = watch.plain.look(places, first, last, low, high, oldest)
    for at, place in zip(here[which[needed]].tolist(), places[needed].tolist(), strict=True):
        subject = watch.plain.subjects[place]
        subject.inputs[0].watermark = int(watch.plain.watermarks[place])
        source = Source(subject, 0)
        yield source, *_points(columns, at, source)


def _points(columns: Columns, at: int, source: Source) -> tuple[Ints, Floats]:
    return source.subject.inputs[source.place].points(columns.slice_series(at, at + 1))
