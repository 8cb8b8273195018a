"""Races of 32 threads on a few rules and devices: each alert has a legal history and one notification per channel.

In one test the threads open and resolve alerts themselves, as an evaluator does; in the other they send points, which
two concurrent evaluators evaluate.

ALERT_RACE_ROUNDS sets the actions per thread (default: 30).
"""

import os
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from alerts import alert_actions, silences
from alerts.models import (
    OPEN_STATUSES,
    Alert,
    AlertEvent,
    Channel,
    Cursor,
    EventKind,
    Notice,
    NoticeKind,
    Resolution,
    Rule,
    Silence,
)
from alerts.models.alerts import AlertQuerySet
from alerts.notifications import grouping, retry_queue
from alerts.notifications.channels.transport import SendReceipt
from alerts.rules import lifecycle
from metrics.models import Device
from rest import caller
from tests.alerts.concurrent_evaluators import ConcurrentEvaluators
from tests.alerts.conftest import send
from tests.conftest import ApiClient
from tests.telemetry_site.site_process import wait_until

THREADS = 32
ROUNDS = int(os.environ.get("ALERT_RACE_ROUNDS", "30"))
TRANSITIONS = (EventKind.TRIGGERED, EventKind.ACKNOWLEDGED, EventKind.RESOLVED)
LEGAL_HISTORIES = {
    (EventKind.TRIGGERED,),
    (EventKind.TRIGGERED, EventKind.ACKNOWLEDGED),
    (EventKind.TRIGGERED, EventKind.RESOLVED),
    (EventKind.TRIGGERED, EventKind.ACKNOWLEDGED, EventKind.RESOLVED),
}
OPERATOR = caller.Caller.internal("user:operator")


class Race:
    """A few rules and devices, and the random actions of the threads on their alerts."""

    def __init__(self) -> None:
        Channel.objects.create(name="ops", kind="webhook", url="https://ops.example.com/")
        Channel.objects.create(name="mail", kind="email", addresses=["ops@example.com"])
        channels = [["ops", "mail"], ["ops"], ["mail", "nowhere"]]
        self.rules = [
            lifecycle.create(
                {"name": f"r{number}", "metric_name": "m", "threshold_value": 1, "notification_channels": names},
                "user:x",
            )
            for number, names in enumerate(channels)
        ]
        self.devices = [Device.objects.create(device_id=f"d{number}") for number in range(2)]
        self.failures: list[BaseException] = []
        self.evaluators = ConcurrentEvaluators()

    def start(self) -> Sequence[threading.Thread]:
        """Start the background threads and return them."""
        watcher = threading.Thread(target=self.evaluators.find_duplicates)
        watcher.start()
        return [watcher]

    def is_evaluated(self) -> bool:
        """Return whether all stored points are evaluated."""
        return True

    def choose_alerts(self, rng: random.Random) -> AlertQuerySet:
        """Return the alerts of a series, of a rule or all alerts."""
        of_rule = Alert.objects.filter(rule=rng.choice(self.rules))
        return rng.choice([of_rule.filter(device=rng.choice(self.devices)), of_rule, Alert.objects.all()])

    def breach(self, rng: random.Random) -> None:
        now = timezone.now()
        pairs = [(rule, device) for rule in self.rules for device in self.devices]
        alerts = [
            Alert(
                rule=rule, rule_name=rule.name, device=device, device_name=device.device_id, metric_name="m",
                level="warning", message="m is 2", triggered_at=now, last_breach_at=now,
            )
            for rule, device in rng.sample(pairs, rng.randint(1, len(pairs)))
        ]  # fmt: skip
        alert_actions.open_alerts(alerts)

    def recover(self, rng: random.Random) -> None:
        alert_actions.resolve(self.choose_alerts(rng), Resolution.RECOVERED, alert_actions.EVALUATOR)

    def acknowledge(self, rng: random.Random) -> None:
        alert_actions.acknowledge(self.choose_alerts(rng), "user:operator", "mine")

    def resolve_manually(self, rng: random.Random) -> None:
        alert_actions.resolve(self.choose_alerts(rng), Resolution.PERSON, "user:operator", "done")

    def comment_and_assign(self, rng: random.Random) -> None:
        alert_actions.comment(self.choose_alerts(rng).filter(pk=rng.randint(1, 50)), "user:operator", "hm")
        alert_actions.assign(self.choose_alerts(rng), "user:other", "user:operator")

    def silence(self, rng: random.Random) -> None:
        active = Silence.objects.filter(ends_at__gt=timezone.now()).first()
        if active is not None:
            silences.end_silence(active, OPERATOR)
        elif rng.random() < 0.3:
            ends_at = timezone.now() + timedelta(minutes=5)
            fields = {"device_ids": ["d0"], "ends_at": ends_at, "reason": "quiet"}
            silences.create_silence(fields, OPERATOR)

    def deliver(self, rng: random.Random) -> None:
        """Do what a sender does, without the network: every delivery succeeds."""
        now = timezone.now()
        grouping.create_deliveries(now)
        retry_queue.record_attempts(
            [(delivery, SendReceipt(200)) for delivery in retry_queue.claim_deliveries(now, 50)], timezone.now()
        )

    def run(self, number: int) -> None:
        rng = random.Random(number)
        actions = [
            self.breach,
            self.breach,
            self.recover,
            self.acknowledge,
            self.resolve_manually,
            self.comment_and_assign,
            self.silence,
        ]
        for _ in range(ROUNDS):
            self.run_action(rng.choice([*actions, self.deliver]), rng)

    def run_action(self, action: Callable[[random.Random], None], rng: random.Random) -> None:
        try:
            action(rng)
        except BaseException as error:
            self.failures.append(error)
        finally:
            connection.close()  # returns it to the pool

    def deliver_rest(self) -> None:
        """Deliver until no notification is waiting."""
        rng, waiting_before = random.Random(0), -1
        while waiting_before != (waiting_before := Notice.objects.filter(status="waiting").count()) or waiting_before:
            self.deliver(rng)


class EvaluatedRace(Race):
    """Race whose threads send points, which two concurrent evaluators turn into alerts."""

    def __init__(self, gateway: ApiClient) -> None:
        super().__init__()
        self.gateway = gateway

    def start(self) -> Sequence[threading.Thread]:
        threads = self.evaluators.threads()
        for thread in threads:
            thread.start()
        return threads

    def breach(self, rng: random.Random) -> None:
        self.send_value(2.0, rng)

    def recover(self, rng: random.Random) -> None:
        self.send_value(0.0, rng)

    def send_value(self, value: float, rng: random.Random) -> None:
        for device in rng.sample(self.devices, rng.randint(1, len(self.devices))):
            send(self.gateway, value, metric="m", device=device.device_id)

    def is_evaluated(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT shard, seq FROM metrics_head")
            return dict(Cursor.objects.values_list("shard", "seq")) == dict(cursor.fetchall())


@pytest.fixture
def large_connection_pool(site: None) -> Iterator[None]:
    """Enlarge the connection pool to one connection per thread, and its timeout."""
    options = connection.settings_dict["OPTIONS"]
    pool_before = options["pool"]
    connection.close_pool()
    options["pool"] = {"min_size": 0, "max_size": THREADS + 8, "timeout": 60}
    yield
    connection.close_pool()
    options["pool"] = pool_before


def run_race(race: Race) -> None:
    """Run all threads to their end, then check alerts, timelines and notifications."""
    background_threads = race.start()
    threads = [threading.Thread(target=race.run, args=(number,)) for number in range(THREADS)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(race.is_evaluated, 600, "all points are evaluated")
    finally:
        race.evaluators.stop.set()
        for thread in background_threads:
            thread.join()
    failures = [*race.failures, *race.evaluators.failures]
    assert Counter(f"{type(failure).__name__}: {str(failure)[:200]}" for failure in failures) == {}
    assert race.evaluators.duplicates == []
    check_timelines()
    race.deliver_rest()
    check_notices()


@pytest.mark.slow
def test_concurrent_open_recover_acknowledge_and_silence_keep_alerts_consistent(large_connection_pool: None) -> None:
    run_race(Race())


@pytest.mark.slow
def test_two_concurrent_evaluators_keep_alerts_consistent(large_connection_pool: None, gateway: ApiClient) -> None:
    race = EvaluatedRace(gateway)
    run_race(race)
    assert sum(race.evaluators.replaced.values()) > 0  # the evaluators did race


def check_timelines() -> None:
    """Check that each alert has a legal history that ends in its status, and that rules count their alerts."""
    histories: defaultdict[int, list[str]] = defaultdict(list)
    for alert_id, kind in (
        AlertEvent.objects.filter(kind__in=TRANSITIONS).order_by("id").values_list("alert_id", "kind")
    ):
        histories[alert_id].append(kind)
    illegal = {alert_id: history for alert_id, history in histories.items() if tuple(history) not in LEGAL_HISTORIES}
    assert illegal == {}
    status_by_kind = {"triggered": "active", "acknowledged": "acknowledged", "resolved": "resolved"}
    assert {alert_pk: status_by_kind[histories[alert_pk][-1]] for alert_pk in histories} == dict(
        Alert.objects.values_list("pk", "status")
    )
    assert len(histories) > THREADS
    alert_counts = Counter(Alert.objects.values_list("rule_id", flat=True))
    assert dict(Rule.objects.values_list("pk", "total_triggers")) == alert_counts
    for alert_id in Alert.objects.all():
        assert (alert_id.resolved_at is not None) == (alert_id.status not in OPEN_STATUSES)
        assert (alert_id.acknowledged_at is not None) == ("acknowledged" in histories[alert_id.pk])


def check_notices() -> None:
    """Check that each alert has one fired notice per channel, then one resolved notice if the first was sent."""
    by_channel: defaultdict[tuple[int, str], dict[str, list[Notice]]] = defaultdict(lambda: defaultdict(list))
    all_notices = Notice.objects.select_related("alert__rule", "delivery").defer("delivery__payload", "alert__evidence")
    for notice in all_notices.order_by("id"):  # deferred: many notices may share one large payload
        by_channel[notice.alert_id, notice.channel_name][notice.kind].append(notice)
    alerts = Alert.objects.filter(retroactive=False).select_related("rule")
    expected = {(alert.pk, name) for alert in alerts for name in alert.rule.notification_channels}
    assert set(by_channel) == expected
    for all_notices in by_channel.values():
        [fired] = all_notices[NoticeKind.FIRED]
        resolved_notices = all_notices[NoticeKind.RESOLVED]
        if fired.channel_name == "nowhere":
            assert fired.status == "unconfigured" and not resolved_notices
        elif fired.status == "sent" and fired.alert.status == "resolved":
            [resolved] = resolved_notices
            assert resolved.status == "sent" and resolved.delivery_id > fired.delivery_id
            assert resolved.delivery.sent_at >= fired.delivery.sent_at
        else:
            assert fired.status in ("sent", "silenced", "dropped") and {
                notice_.status for notice_ in resolved_notices
            } <= {"dropped"}
            assert fired.status != "dropped" or fired.alert.status == "resolved"
