"""Thirty-two threads at a few rules and devices: whatever they do to alerts at once, each alert has one legal life.

Once they raise and resolve alerts themselves, as evaluators do; once they send measurements, which two evaluators judge
that know nothing of each other.

ALERT_RACE_ROUNDS says how many rounds of each thread (30; a thousand by hand).
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
MOVES = (EventKind.TRIGGERED, EventKind.ACKNOWLEDGED, EventKind.RESOLVED)
LEGAL = {
    (EventKind.TRIGGERED,),
    (EventKind.TRIGGERED, EventKind.ACKNOWLEDGED),
    (EventKind.TRIGGERED, EventKind.RESOLVED),
    (EventKind.TRIGGERED, EventKind.ACKNOWLEDGED, EventKind.RESOLVED),
}
OPERATOR = caller.Caller.internal("user:operator")


class Race:
    """A few pairs of rule and device, and what threads do to their alerts."""

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
        """What goes on beside the threads."""
        looking = threading.Thread(target=self.evaluators.find_duplicates)
        looking.start()
        return [looking]

    def is_judged(self) -> bool:
        """Whether everything that was sent is."""
        return True

    def some(self, chance: random.Random) -> AlertQuerySet:
        """The alerts of one evaluators, of a rule or of all."""
        among = Alert.objects.filter(rule=chance.choice(self.rules))
        return chance.choice([among.filter(device=chance.choice(self.devices)), among, Alert.objects.all()])

    def breach(self, chance: random.Random) -> None:
        now = timezone.now()
        pairs = [(rule, device) for rule in self.rules for device in self.devices]
        found = [
            Alert(
                rule=rule, rule_name=rule.name, device=device, device_name=device.device_id, metric_name="m",
                level="warning", message="m is 2", triggered_at=now, last_breach_at=now,
            )
            for rule, device in chance.sample(pairs, chance.randint(1, len(pairs)))
        ]  # fmt: skip
        alert_actions.open_alerts(found)

    def recover(self, chance: random.Random) -> None:
        alert_actions.resolve(self.some(chance), Resolution.RECOVERED, alert_actions.EVALUATOR)

    def acknowledge(self, chance: random.Random) -> None:
        alert_actions.acknowledge(self.some(chance), "user:operator", "mine")

    def finish(self, chance: random.Random) -> None:
        alert_actions.resolve(self.some(chance), Resolution.PERSON, "user:operator", "done")

    def talk(self, chance: random.Random) -> None:
        alert_actions.comment(self.some(chance).filter(pk=chance.randint(1, 50)), "user:operator", "hm")
        alert_actions.assign(self.some(chance), "user:other", "user:operator")

    def silence(self, chance: random.Random) -> None:
        on = Silence.objects.filter(ends_at__gt=timezone.now()).first()
        if on is not None:
            silences.end_silence(on, OPERATOR)
        elif chance.random() < 0.3:
            ends_at = timezone.now() + timedelta(minutes=5)
            fields = {"device_ids": ["d0"], "ends_at": ends_at, "reason": "quiet"}
            silences.create_silence(fields, OPERATOR)

    def send(self, chance: random.Random) -> None:
        """What a sender does, but for the network: whatever it has in hand arrives."""
        now = timezone.now()
        grouping.create_deliveries(now)
        retry_queue.record_attempts(
            [(one, SendReceipt(200)) for one in retry_queue.claim_deliveries(now, [], 50)], timezone.now()
        )

    def run(self, number: int) -> None:
        chance = random.Random(number)
        verbs = [self.breach, self.breach, self.recover, self.acknowledge, self.finish, self.talk, self.silence]
        for _ in range(ROUNDS):
            self.guarded(chance.choice([*verbs, self.send]), chance)

    def guarded(self, verb: Callable[[random.Random], None], chance: random.Random) -> None:
        try:
            verb(chance)
        except BaseException as failure:
            self.failures.append(failure)
        finally:
            connection.close()  # to the pool

    def settle(self) -> None:
        """Everything that is left is sent."""
        chance, before = random.Random(0), -1
        while before != (before := Notice.objects.filter(status="waiting").count()) or before:
            self.send(chance)


class Judged(Race):
    """The same, but for alerts: values are sent, of which two evaluators at once make them."""

    def __init__(self, gateway: ApiClient) -> None:
        super().__init__()
        self.gateway = gateway

    def start(self) -> Sequence[threading.Thread]:
        threads = self.evaluators.threads()
        for thread in threads:
            thread.start()
        return threads

    def breach(self, chance: random.Random) -> None:
        self.measure(2.0, chance)

    def recover(self, chance: random.Random) -> None:
        self.measure(0.0, chance)

    def measure(self, value: float, chance: random.Random) -> None:
        for device in chance.sample(self.devices, chance.randint(1, len(self.devices))):
            send(self.gateway, value, metric="m", device=device.device_id)

    def is_judged(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT shard, seq FROM metrics_head")
            return dict(Cursor.objects.values_list("shard", "seq")) == dict(cursor.fetchall())


@pytest.fixture
def crowd(site: None) -> Iterator[None]:
    """A connection for every thread, and patience."""
    options = connection.settings_dict["OPTIONS"]
    before = options["pool"]
    connection.close_pool()
    options["pool"] = {"min_size": 0, "max_size": THREADS + 8, "timeout": 60}
    yield
    connection.close_pool()
    options["pool"] = before


def raced(race: Race) -> None:
    """Let all threads do all their rounds."""
    beside = race.start()
    threads = [threading.Thread(target=race.run, args=(number,)) for number in range(THREADS)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(race.is_judged, 600, "everything is judged")
    finally:
        race.evaluators.stop.set()
        for thread in beside:
            thread.join()
    failures = [*race.failures, *race.evaluators.failures]
    assert Counter(f"{type(one).__name__}: {str(one)[:200]}" for one in failures) == {}
    assert race.evaluators.duplicates == []
    check_lives()
    race.settle()
    check_notices()


@pytest.mark.slow
def test_concurrent_open_recover_acknowledge_and_silence_keep_alerts_consistent(crowd: None) -> None:
    raced(Race())


@pytest.mark.slow
def test_two_concurrent_evaluators_keep_alerts_consistent(crowd: None, gateway: ApiClient) -> None:
    race = Judged(gateway)
    raced(race)
    assert sum(race.evaluators.replaced.values()) > 0  # otherwise there was no race


def check_lives() -> None:
    """Each alert was triggered first, moved only onwards, and is what its timeline says; rules counted all of them."""
    moves: defaultdict[int, list[str]] = defaultdict(list)
    for alert, kind in AlertEvent.objects.filter(kind__in=MOVES).order_by("id").values_list("alert_id", "kind"):
        moves[alert].append(kind)
    illegal = {alert: kinds for alert, kinds in moves.items() if tuple(kinds) not in LEGAL}
    assert illegal == {}
    ends = {"triggered": "active", "acknowledged": "acknowledged", "resolved": "resolved"}
    assert {pk: ends[moves[pk][-1]] for pk in moves} == dict(Alert.objects.values_list("pk", "status"))
    assert len(moves) > THREADS
    raised = Counter(Alert.objects.values_list("rule_id", flat=True))
    assert dict(Rule.objects.values_list("pk", "total_triggers")) == raised
    for alert in Alert.objects.all():
        assert (alert.resolved_at is not None) == (alert.status not in OPEN_STATUSES)
        assert (alert.acknowledged_at is not None) == ("acknowledged" in moves[alert.pk])


def check_notices() -> None:
    """One fired notice per alert and channel; that it is over is told once, after that, and to all who heard of it."""
    by_channel: defaultdict[tuple[int, str], dict[str, list[Notice]]] = defaultdict(lambda: defaultdict(list))
    notices = Notice.objects.select_related("alert__rule", "delivery").defer("delivery__payload", "alert__evidence")
    for notice in notices.order_by("id"):  # a message may be of thousands of notices, each of which would bring it
        by_channel[notice.alert_id, notice.channel_name][notice.kind].append(notice)
    alerts = Alert.objects.filter(retroactive=False).select_related("rule")
    expected = {(alert.pk, name) for alert in alerts for name in alert.rule.notification_channels}
    assert set(by_channel) == expected
    for notices in by_channel.values():
        [fired] = notices[NoticeKind.FIRED]
        over = notices[NoticeKind.RESOLVED]
        if fired.channel_name == "nowhere":
            assert fired.status == "unconfigured" and not over
        elif fired.status == "sent" and fired.alert.status == "resolved":
            [resolved] = over
            assert resolved.status == "sent" and resolved.delivery_id > fired.delivery_id
            assert resolved.delivery.sent_at >= fired.delivery.sent_at
        else:
            assert fired.status in ("sent", "silenced", "dropped") and {one.status for one in over} <= {"dropped"}
            assert fired.status != "dropped" or fired.alert.status == "resolved"
