"""Detect patterns in alerts: flapping, sequences, recurring hours and weekdays, and co-occurrence.

All functions are pure, and their results do not depend on the order of the alerts.

Patterns that could be chance are discarded: the probability of a count under chance is bounded (Chernoff) and must be
below MAX_FALSE_PROBABILITY after correction for all comparisons of the run, so that one run in a thousand has a false
pattern. Bursts count once; otherwise one bad night would look like a recurring hour.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

SECOND = 1_000_000  # µs
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
MAX_FALSE_PROBABILITY = 0.001
FLAPPING_ALERTS = 4  # of a rule and device within an hour
SEQUENCE_WINDOW = 600 * SECOND  # within which one alert follows another
MAX_SEQUENCE_DISTANCE = 16  # alerts after an alert of the same device or group that may follow it
CO_OCCURRENCE_WINDOW = 60 * SECOND  # within which devices alert together
MAX_PAIR_DISTANCE = 64  # alerts after an alert that may co-occur with it
MIN_SUPPORT = 5
MIN_CONFIDENCE = 0.3
MIN_LIFT = 2.0
MIN_JACCARD = 0.5
MIN_WEEKDAY_DATES = 3  # distinct dates
MAX_PATTERNS = 200  # per kind: those with the highest support


@dataclass(frozen=True, slots=True)
class AlertColumns:
    """Alerts as columns: time (µs since 1970, UTC), rule and device (primary keys)."""

    times: Ints
    rules: Ints
    devices: Ints

    def __len__(self) -> int:
        return len(self.times)

    @property
    def span(self) -> int:
        """Return the time from the first to the last alert in µs, at least 1."""
        return max(int(np.ptp(self.times)), 1)

    def select(self, rows: Any) -> "AlertColumns":
        return AlertColumns(self.times[rows], self.rules[rows], self.devices[rows])


@dataclass(frozen=True, slots=True)
class DetectedPattern:
    """Pattern that occurred `support` times out of `cases`.

    subject  primary keys of rules, devices and groups, hours and weekdays (0 is Monday), by their role
    devices  devices involved
    """

    kind: str
    subject: dict[str, int]
    support: int
    cases: int
    devices: tuple[int, ...]

    @property
    def confidence(self) -> float:
        return self.support / self.cases


def detect_flapping(alerts: AlertColumns) -> Iterator[DetectedPattern]:
    """Yield rules and devices with FLAPPING_ALERTS or more alerts within an hour.

    The support is the number of alerts in such hours, the cases all alerts of the rule and device.
    """
    if len(alerts) < FLAPPING_ALERTS:
        return
    ordered = alerts.select(np.lexsort((alerts.times, alerts.devices, alerts.rules)))
    last = FLAPPING_ALERTS - 1
    starts_flapping = (
        (ordered.rules[:-last] == ordered.rules[last:])
        & (ordered.devices[:-last] == ordered.devices[last:])
        & (ordered.times[last:] - ordered.times[:-last] <= HOUR)
    )
    is_flapping = np.zeros(len(ordered), bool)
    for offset in range(FLAPPING_ALERTS):
        is_flapping[offset : len(ordered) - last + offset] |= starts_flapping
    series = np.cumsum(_starts_key(ordered.rules) | _starts_key(ordered.devices)) - 1
    first_rows = np.flatnonzero(_starts_key(series))
    cases, support = np.bincount(series), np.bincount(series, is_flapping).astype(np.int64)
    for index in np.flatnonzero(support):
        rule, device = int(ordered.rules[first_rows[index]]), int(ordered.devices[first_rows[index]])
        yield DetectedPattern(
            "flapping", {"rule": rule, "device": device}, int(support[index]), int(cases[index]), (device,)
        )


def detect_sequences(alerts: AlertColumns, scopes: Ints, scope_kind: str) -> Iterator[DetectedPattern]:
    """Yield pairs of rules whose second rule often alerts soon after the first in the same scope.

    alerts, scopes  one row per alert and scope: its device, or each group of its device. In a group, the second alert
                    must be of another device.
    """
    alerts, scopes = _select_cases(alerts, scopes)
    if not len(alerts):
        return
    rule_pks, rules = np.unique(alerts.rules, return_inverse=True)
    scope_pks, scope_indexes = np.unique(scopes, return_inverse=True)
    rule_count = len(rule_pks)
    first_rows, thens = _find_followers(alerts, scope_indexes, rules, other_device_only=scope_kind == "group")
    followed = scope_indexes[first_rows] * rule_count + rules[first_rows]
    pairs, support = np.unique(followed * rule_count + thens, return_counts=True)
    pairs, support = pairs[support >= MIN_SUPPORT], support[support >= MIN_SUPPORT]
    scope_rules, triggered = np.unique(scope_indexes * rule_count + rules, return_counts=True)
    scope, first, then = pairs // rule_count // rule_count, pairs // rule_count % rule_count, pairs % rule_count
    cases = triggered[np.searchsorted(scope_rules, scope * rule_count + first)]
    then_counts = triggered[np.searchsorted(scope_rules, scope * rule_count + then)]
    chance = -np.expm1(-then_counts * (SEQUENCE_WINDOW / alerts.span))
    comparisons = float(np.sum(np.bincount(scope_rules // rule_count) ** 2))
    confidence = support / cases
    significant = (confidence >= MIN_CONFIDENCE) & (confidence >= MIN_LIFT * chance)
    significant &= _log_false_probability(support, cases, chance) < np.log(MAX_FALSE_PROBABILITY / max(comparisons, 1))
    order = sorted(np.flatnonzero(significant).tolist(), key=lambda index: (-support[index], -confidence[index], index))
    for index in order[:MAX_PATTERNS]:
        subject = {"first": int(rule_pks[first[index]]), "then": int(rule_pks[then[index]])}
        subject[scope_kind] = int(scope_pks[scope[index]])
        involved = (scope_indexes == scope[index]) & ((rules == first[index]) | (rules == then[index]))
        yield DetectedPattern(
            "following", subject, int(support[index]), int(cases[index]), _list_devices(alerts, involved)
        )


def _select_cases(alerts: AlertColumns, scopes: Ints) -> tuple[AlertColumns, Ints]:
    """Return rows sorted by scope and time: burst starts of rules with at least MIN_SUPPORT of them in the scope."""
    order = np.lexsort((alerts.devices, alerts.times, alerts.rules, scopes))
    alerts, scopes = alerts.select(order), scopes[order]
    selected = _starts_burst(alerts.times, SEQUENCE_WINDOW, alerts.rules, scopes)
    alerts, scopes = alerts.select(selected), scopes[selected]
    series = np.cumsum(_starts_key(alerts.rules) | _starts_key(scopes)) - 1
    selected = np.bincount(series)[series] >= MIN_SUPPORT
    alerts, scopes = alerts.select(selected), scopes[selected]
    order = np.lexsort((alerts.devices, alerts.rules, alerts.times, scopes))
    return alerts.select(order), scopes[order]


def _find_followers(alerts: AlertColumns, scopes: Ints, rules: Ints, other_device_only: bool) -> tuple[Ints, Ints]:
    """Return (row, following rule) pairs: each rule once per row, since bursts were reduced to their start."""
    rows, following_rules = [], []
    for shift in range(1, min(MAX_SEQUENCE_DISTANCE, len(alerts) - 1) + 1):
        delays = alerts.times[shift:] - alerts.times[:-shift]
        follows = (scopes[shift:] == scopes[:-shift]) & (delays <= SEQUENCE_WINDOW)
        if not follows.any():
            break
        follows &= (delays > 0) & (rules[shift:] != rules[:-shift])
        if other_device_only:
            follows &= alerts.devices[shift:] != alerts.devices[:-shift]
        matches = np.flatnonzero(follows)
        rows.append(matches)
        following_rules.append(rules[matches + shift])
    return _concatenate(rows), _concatenate(following_rules)


def detect_recurring_times(alerts: AlertColumns) -> Iterator[DetectedPattern]:
    """Yield rules that alert at one hour of the day or on one day of the week (UTC).

    Counts the calendar hours with an alert of the rule, regardless of how many alerts and devices.
    """
    rule_hours = np.unique(np.stack([alerts.rules, alerts.times // HOUR], axis=1), axis=0)
    if not len(rule_hours):
        return
    dates = np.arange(alerts.times.min() // DAY, alerts.times.max() // DAY + 1)
    weekdays = np.bincount((dates + 3) % 7, minlength=7) / len(dates)  # 1970 began on a Thursday
    rules, starts = np.unique(rule_hours[:, 0], return_index=True)
    for rule, hours in zip(rules.tolist(), np.split(rule_hours[:, 1], starts[1:]), strict=True):
        yield from _detect_hours(alerts, rule, hours, 24 * len(rules))
        yield from _detect_weekdays(alerts, rule, hours, weekdays, 7 * len(rules))


def _detect_hours(alerts: AlertColumns, rule: int, hours: Ints, comparisons: int) -> Iterator[DetectedPattern]:
    support = np.bincount(hours % 24, minlength=24)
    significant = (support >= MIN_SUPPORT) & (support / len(hours) >= MIN_CONFIDENCE)
    significant &= _log_false_probability(support, len(hours), 1 / 24) < np.log(MAX_FALSE_PROBABILITY / comparisons)
    for hour in np.flatnonzero(significant).tolist():
        involved = (alerts.rules == rule) & (alerts.times // HOUR % 24 == hour)
        yield DetectedPattern(
            "hour", {"rule": rule, "hour": hour}, int(support[hour]), len(hours), _list_devices(alerts, involved)
        )


def _detect_weekdays(
    alerts: AlertColumns, rule: int, hours: Ints, expected_shares: NDArray[np.float64], comparisons: int
) -> Iterator[DetectedPattern]:
    """Yield weekdays that are significant by hours, as a month has few dates of each, and frequent by dates.

    The dates prevent one long incident from counting as a recurring weekday.
    """
    dates = np.unique(hours // 24)
    support = np.bincount((dates + 3) % 7, minlength=7)
    hour_counts = np.bincount((hours // 24 + 3) % 7, minlength=7)
    significant = (support >= MIN_WEEKDAY_DATES) & (2 * support >= len(dates)) & (hour_counts >= MIN_SUPPORT)
    log_probability = _log_false_probability(hour_counts, len(hours), expected_shares)
    significant &= log_probability < np.log(MAX_FALSE_PROBABILITY / comparisons)
    for weekday in np.flatnonzero(significant).tolist():
        involved = (alerts.rules == rule) & ((alerts.times // DAY + 3) % 7 == weekday)
        yield DetectedPattern(
            "weekday",
            {"rule": rule, "weekday": weekday},
            int(support[weekday]),
            len(dates),
            _list_devices(alerts, involved),
        )


def detect_co_occurrence(alerts: AlertColumns) -> Iterator[DetectedPattern]:
    """Yield groups of devices that alert within a minute of one another, for any rule.

    The support is the number of moments with alerts on more than half of the devices, the cases all moments with an
    alert.
    """
    if not len(alerts):
        return
    alerts = alerts.select(np.lexsort((alerts.times, alerts.devices)))
    alerts = alerts.select(_starts_burst(alerts.times, CO_OCCURRENCE_WINDOW, alerts.devices))
    alerts = alerts.select(np.lexsort((alerts.devices, alerts.times)))
    device_pks, devices = np.unique(alerts.devices, return_inverse=True)
    left, right = _find_pairs(alerts.times, devices)
    device_count = len(device_pks)
    pairs, support = np.unique(np.minimum(left, right) * device_count + np.maximum(left, right), return_counts=True)
    left, right = pairs // device_count, pairs % device_count
    triggered = np.bincount(devices)
    fewer_counts = np.maximum(np.minimum(triggered[left], triggered[right]), support)
    chance = -np.expm1(-np.maximum(triggered[left], triggered[right]) * (2 * CO_OCCURRENCE_WINDOW / alerts.span))
    significant = (support >= MIN_SUPPORT) & (support >= MIN_JACCARD * (triggered[left] + triggered[right] - support))
    log_probability = _log_false_probability(support, fewer_counts, chance)
    significant &= log_probability < np.log(MAX_FALSE_PROBABILITY / max(device_count * device_count, 1))
    components = _find_components(left[significant], right[significant], device_count)
    order = np.argsort(components[devices], kind="stable")
    starts = np.flatnonzero(_starts_key(components[devices][order]))
    for rows in np.split(order, starts[1:]):
        group = np.unique(devices[rows])
        moments, cases = _count_moments(alerts.times[rows], devices[rows], len(group))
        if len(group) > 1 and moments >= MIN_SUPPORT:
            yield DetectedPattern("together", {}, moments, cases, tuple(device_pks[group].tolist()))


def _find_pairs(times: Ints, devices: Ints) -> tuple[Ints, Ints]:
    left, right = [], []
    for shift in range(1, min(MAX_PAIR_DISTANCE, len(times) - 1) + 1):
        co_occurs = times[shift:] - times[:-shift] <= CO_OCCURRENCE_WINDOW
        if not co_occurs.any():
            break
        matches = np.flatnonzero(co_occurs & (devices[shift:] != devices[:-shift]))
        left.append(devices[matches])
        right.append(devices[matches + shift])
    return _concatenate(left), _concatenate(right)


def _count_moments(times: Ints, devices: Ints, device_count: int) -> tuple[int, int]:
    """Return (moments at which more than half of the devices alerted, moments at which any did)."""
    moment = np.cumsum(_starts_after_pause(times, CO_OCCURRENCE_WINDOW)) - 1
    moments_of_devices = np.unique(np.stack([moment, devices], axis=1), axis=0)[:, 0]
    return int(np.count_nonzero(2 * np.bincount(moments_of_devices) > device_count)), int(moment[-1]) + 1


def _find_components(left: Ints, right: Ints, count: int) -> Ints:
    """Return the connected component of each index below `count`: the least index it is connected to by these pairs."""
    least = np.arange(count)
    while True:
        before = least.copy()
        joint = np.minimum(least[left], least[right])
        np.minimum.at(least, left, joint)
        np.minimum.at(least, right, joint)
        least = least[least]
        if np.array_equal(before, least):
            return least


def _starts_burst(times: Ints, pause: int, *keys: Ints) -> Flags:
    """Return which rows start a burst: no row with the same keys precedes them within `pause`; rows are sorted."""
    starts = _starts_after_pause(times, pause)
    for key in keys:
        starts |= _starts_key(key)
    return starts


def _starts_key(sorted_keys: Ints) -> Flags:
    """Return which rows differ from the previous row; the first row does."""
    return np.concatenate([np.ones(min(len(sorted_keys), 1), bool), sorted_keys[1:] != sorted_keys[:-1]])


def _starts_after_pause(times: Ints, pause: int) -> Flags:
    return np.concatenate([np.ones(min(len(times), 1), bool), np.diff(times) > pause])


def _list_devices(alerts: AlertColumns, involved: Flags) -> tuple[int, ...]:
    return tuple(np.unique(alerts.devices[involved]).tolist())


def _concatenate(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _log_false_probability(times: Any, cases: Any, chance: Any) -> NDArray[np.float64]:
    """Return an upper bound of the log probability of `times` or more successes in `cases` by chance (Chernoff)."""
    share = times / np.maximum(cases, 1)
    likely = np.clip(chance, 1e-12, 1 - 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        more = np.where(share > 0, share * np.log(share / likely), 0.0)
        less = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - likely)), 0.0)
    return np.where(share > likely, -cases * (more + less), 0.0)
