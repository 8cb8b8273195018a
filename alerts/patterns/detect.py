"""What alerts do again and again, found in columns of them: pure, and the same for the same alerts in any order.

Whatever could be chance is left out: how unlikely a count is by chance is bounded (Chernoff), and has to be under
CHANCE after all comparisons that were made for it, so that a finding of a whole run is false once in a thousand runs.
Bursts count once, or one bad night would look like a habit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

SECOND: Final = 1_000_000  # µs
HOUR: Final = 3_600 * SECOND
DAY: Final = 24 * HOUR
CHANCE: Final = 0.001
FLAPS: Final = 4  # alerts of a rule at a device within an hour
SOON: Final = 600 * SECOND  # in which one alert follows another
NEXT: Final = 16  # alerts of a device or group after one that are looked at
AT_ONCE: Final = 60 * SECOND  # in which devices trigger together
NEIGHBOURS: Final = 64  # alerts after one that are looked at for it
LEAST_TIMES: Final = 5
LEAST_CONFIDENCE: Final = 0.3
LEAST_LIFT: Final = 2.0
LEAST_JACCARD: Final = 0.5
LEAST_DATES: Final = 3  # of one weekday
MOST_FOUND: Final = 200  # of one kind: those that were seen most often


@dataclass(frozen=True, slots=True)
class Columns:
    """Alerts: when each was triggered (µs since 1970, UTC), by which rule, at which device."""

    times: Ints
    rules: Ints
    devices: Ints

    def __len__(self) -> int:
        return len(self.times)

    @property
    def span(self) -> int:
        """From the first to the last, in µs, and never 0."""
        return max(int(np.ptp(self.times)), 1)

    def at(self, chosen: Any) -> "Columns":
        return Columns(self.times[chosen], self.rules[chosen], self.devices[chosen])


@dataclass(frozen=True, slots=True)
class Found:
    """A pattern: seen `support` times of the `cases` in which it might have been.

    subject  numbers of rules, devices and groups, hours and weekdays (0 is Monday), by what they are in it
    devices  those that it is about
    """

    kind: str
    subject: dict[str, int]
    support: int
    cases: int
    devices: tuple[int, ...]

    @property
    def confidence(self) -> float:
        return self.support / self.cases


def flapping(alerts: Columns) -> Iterator[Found]:
    """Rules that trigger at a device FLAPS times within an hour or more often: how many of their alerts are such."""
    if len(alerts) < FLAPS:
        return
    one = alerts.at(np.lexsort((alerts.times, alerts.devices, alerts.rules)))
    last = FLAPS - 1
    begins = (
        (one.rules[:-last] == one.rules[last:])
        & (one.devices[:-last] == one.devices[last:])
        & (one.times[last:] - one.times[:-last] <= HOUR)
    )
    inside = np.zeros(len(one), bool)
    for place in range(FLAPS):
        inside[place : len(one) - last + place] |= begins
    series = np.cumsum(_changes(one.rules) | _changes(one.devices)) - 1
    first = np.flatnonzero(_changes(series))
    cases, support = np.bincount(series), np.bincount(series, inside).astype(np.int64)
    for at in np.flatnonzero(support):
        rule, device = int(one.rules[first[at]]), int(one.devices[first[at]])
        yield Found("flapping", {"rule": rule, "device": device}, int(support[at]), int(cases[at]), (device,))


def following(alerts: Columns, places: Ints, kind_of_place: str) -> Iterator[Found]:
    """Rules of which one triggers soon after another at the same place.

    alerts, places  an alert with its place in each row: its device, or each group that the device is in. In a group
                    the second alert is one of another device than the first.
    """
    alerts, places = _cases(alerts, places)
    if not len(alerts):
        return
    rule_numbers, rules = np.unique(alerts.rules, return_inverse=True)
    place_numbers, at_place = np.unique(places, return_inverse=True)
    many = len(rule_numbers)
    firsts, thens = _followed(alerts, at_place, rules, apart=kind_of_place == "group")
    pairs, support = np.unique((at_place[firsts] * many + rules[firsts]) * many + thens, return_counts=True)
    pairs, support = pairs[support >= LEAST_TIMES], support[support >= LEAST_TIMES]
    known, triggered = np.unique(at_place * many + rules, return_counts=True)
    place, first, then = pairs // many // many, pairs // many % many, pairs % many
    cases = triggered[np.searchsorted(known, place * many + first)]
    others = triggered[np.searchsorted(known, place * many + then)]
    chance = -np.expm1(-others * (SOON / alerts.span))
    comparisons = float(np.sum(np.bincount(known // many) ** 2))
    share = support / cases
    good = (share >= LEAST_CONFIDENCE) & (share >= LEAST_LIFT * chance)
    good &= _log_chance(support, cases, chance) < np.log(CHANCE / max(comparisons, 1))
    for at in sorted(np.flatnonzero(good).tolist(), key=lambda at: (-support[at], -share[at], at))[:MOST_FOUND]:
        subject = {"first": int(rule_numbers[first[at]]), "then": int(rule_numbers[then[at]])}
        subject[kind_of_place] = int(place_numbers[place[at]])
        about = (at_place == place[at]) & ((rules == first[at]) | (rules == then[at]))
        yield Found("following", subject, int(support[at]), int(cases[at]), _devices(alerts, about))


def _cases(alerts: Columns, places: Ints) -> tuple[Columns, Ints]:
    """By place and time: the beginnings of bursts, more than SOON apart, of rules that have enough of them there."""
    order = np.lexsort((alerts.devices, alerts.times, alerts.rules, places))
    alerts, places = alerts.at(order), places[order]
    kept = _begins_burst(alerts.times, SOON, alerts.rules, places)
    alerts, places = alerts.at(kept), places[kept]
    series = np.cumsum(_changes(alerts.rules) | _changes(places)) - 1
    kept = np.bincount(series)[series] >= LEAST_TIMES
    alerts, places = alerts.at(kept), places[kept]
    order = np.lexsort((alerts.devices, alerts.rules, alerts.times, places))
    return alerts.at(order), places[order]


def _followed(alerts: Columns, places: Ints, rules: Ints, apart: bool) -> tuple[Ints, Ints]:
    """(row, rule that triggered soon after it at the same place): once, since the next of that rule is later."""
    firsts, thens = [], []
    for shift in range(1, min(NEXT, len(alerts) - 1) + 1):
        waited = alerts.times[shift:] - alerts.times[:-shift]
        soon = (places[shift:] == places[:-shift]) & (waited <= SOON)
        if not soon.any():
            break
        soon &= (waited > 0) & (rules[shift:] != rules[:-shift])
        if apart:
            soon &= alerts.devices[shift:] != alerts.devices[:-shift]
        found = np.flatnonzero(soon)
        firsts.append(found)
        thens.append(rules[found + shift])
    return _joined(firsts), _joined(thens)


def regular(alerts: Columns) -> Iterator[Found]:
    """Rules that trigger at one hour of the day, or on one day of the week (UTC).

    What is counted are hours of the calendar in which a rule triggered, no matter how often or at how many devices.
    """
    cells = np.unique(np.stack([alerts.rules, alerts.times // HOUR], axis=1), axis=0)
    if not len(cells):
        return
    dates = np.arange(alerts.times.min() // DAY, alerts.times.max() // DAY + 1)
    weekdays = np.bincount((dates + 3) % 7, minlength=7) / len(dates)  # 1970 began on a Thursday
    rules, begins = np.unique(cells[:, 0], return_index=True)
    for rule, hours in zip(rules.tolist(), np.split(cells[:, 1], begins[1:]), strict=True):
        yield from _at_an_hour(alerts, rule, hours, 24 * len(rules))
        yield from _on_a_weekday(alerts, rule, hours, weekdays, 7 * len(rules))


def _at_an_hour(alerts: Columns, rule: int, hours: Ints, comparisons: int) -> Iterator[Found]:
    support = np.bincount(hours % 24, minlength=24)
    good = (support >= LEAST_TIMES) & (support / len(hours) >= LEAST_CONFIDENCE)
    good &= _log_chance(support, len(hours), 1 / 24) < np.log(CHANCE / comparisons)
    for hour in np.flatnonzero(good).tolist():
        about = (alerts.rules == rule) & (alerts.times // HOUR % 24 == hour)
        yield Found("hour", {"rule": rule, "hour": hour}, int(support[hour]), len(hours), _devices(alerts, about))


def _on_a_weekday(
    alerts: Columns, rule: int, hours: Ints, shares: NDArray[np.float64], comparisons: int
) -> Iterator[Found]:
    """Judged by hours, since a month has few of each weekday, and by dates, since one of them may be a long one."""
    dates = np.unique(hours // 24)
    support = np.bincount((dates + 3) % 7, minlength=7)
    of_hours = np.bincount((hours // 24 + 3) % 7, minlength=7)
    good = (support >= LEAST_DATES) & (2 * support >= len(dates)) & (of_hours >= LEAST_TIMES)
    good &= _log_chance(of_hours, len(hours), shares) < np.log(CHANCE / comparisons)
    for day in np.flatnonzero(good).tolist():
        about = (alerts.rules == rule) & ((alerts.times // DAY + 3) % 7 == day)
        yield Found("weekday", {"rule": rule, "weekday": day}, int(support[day]), len(dates), _devices(alerts, about))


def together(alerts: Columns) -> Iterator[Found]:
    """Devices that trigger at once, whatever the rule: in how many of the cases in which one did most of them did."""
    if not len(alerts):
        return
    alerts = alerts.at(np.lexsort((alerts.times, alerts.devices)))
    alerts = alerts.at(_begins_burst(alerts.times, AT_ONCE, alerts.devices))
    alerts = alerts.at(np.lexsort((alerts.devices, alerts.times)))
    numbers, devices = np.unique(alerts.devices, return_inverse=True)
    one, other = _pairs_at_once(alerts.times, devices)
    many = len(numbers)
    pairs, support = np.unique(np.minimum(one, other) * many + np.maximum(one, other), return_counts=True)
    one, other = pairs // many, pairs % many
    triggered = np.bincount(devices)
    fewer = np.maximum(np.minimum(triggered[one], triggered[other]), support)
    chance = -np.expm1(-np.maximum(triggered[one], triggered[other]) * (2 * AT_ONCE / alerts.span))
    good = (support >= LEAST_TIMES) & (support >= LEAST_JACCARD * (triggered[one] + triggered[other] - support))
    good &= _log_chance(support, fewer, chance) < np.log(CHANCE / max(many * many, 1))
    members = _connected(one[good], other[good], many)
    order = np.argsort(members[devices], kind="stable")
    begins = np.flatnonzero(_changes(members[devices][order]))
    for mine in np.split(order, begins[1:]):
        chosen = np.unique(devices[mine])
        moments, cases = _moments(alerts.times[mine], devices[mine], len(chosen))
        if len(chosen) > 1 and moments >= LEAST_TIMES:
            yield Found("together", {}, moments, cases, tuple(numbers[chosen].tolist()))


def _pairs_at_once(times: Ints, devices: Ints) -> tuple[Ints, Ints]:
    ones, others = [], []
    for shift in range(1, min(NEIGHBOURS, len(times) - 1) + 1):
        near = times[shift:] - times[:-shift] <= AT_ONCE
        if not near.any():
            break
        found = np.flatnonzero(near & (devices[shift:] != devices[:-shift]))
        ones.append(devices[found])
        others.append(devices[found + shift])
    return _joined(ones), _joined(others)


def _moments(times: Ints, devices: Ints, many: int) -> tuple[int, int]:
    """(moments at which more than half of so many devices triggered, those at which any did)."""
    moment = np.cumsum(_changes_by(times, AT_ONCE)) - 1
    present = np.unique(np.stack([moment, devices], axis=1), axis=0)[:, 0]
    return int(np.count_nonzero(2 * np.bincount(present) > many)), int(moment[-1]) + 1


def _connected(one: Ints, other: Ints, many: int) -> Ints:
    """Of each of `many`, the least that it hangs together with by these pairs."""
    least = np.arange(many)
    while True:
        before = least.copy()
        joint = np.minimum(least[one], least[other])
        np.minimum.at(least, one, joint)
        np.minimum.at(least, other, joint)
        least = least[least]
        if np.array_equal(before, least):
            return least


def _begins_burst(times: Ints, pause: int, *keys: Ints) -> Flags:
    """Of alerts sorted by keys and time: those before which nothing of the same keys was for as long as `pause`."""
    begins = _changes_by(times, pause)
    for key in keys:
        begins |= _changes(key)
    return begins


def _changes(sorted_keys: Ints) -> Flags:
    """Where a row differs from the one before; the first does."""
    return np.concatenate([np.ones(min(len(sorted_keys), 1), bool), sorted_keys[1:] != sorted_keys[:-1]])


def _changes_by(times: Ints, pause: int) -> Flags:
    return np.concatenate([np.ones(min(len(times), 1), bool), np.diff(times) > pause])


def _devices(alerts: Columns, about: Flags) -> tuple[int, ...]:
    return tuple(np.unique(alerts.devices[about]).tolist())


def _joined(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _log_chance(times: Any, cases: Any, chance: Any) -> NDArray[np.float64]:
    """No less than the logarithm of the chance to see something in `times` or more of so many cases."""
    share = times / np.maximum(cases, 1)
    likely = np.clip(chance, 1e-12, 1 - 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        more = np.where(share > 0, share * np.log(share / likely), 0.0)
        less = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - likely)), 0.0)
    return np.where(share > likely, -cases * (more + less), 0.0)
