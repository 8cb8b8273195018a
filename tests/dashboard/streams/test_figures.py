"""The figures of the channel `dashboard`: what they contain, for whom, and how often they are computed."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from channels.db import database_sync_to_async
from django.utils import timezone

from alerts.models import Alert, Level, Status
from dashboard.open_alert_counts import MAX_COUNT
from dashboard.streams import figures
from dashboard.streams.figures import FiguresFeed, FiguresKey, SiteFigures, compute_figures
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from metrics.query import last_seen
from rest.caller import Caller
from tests.conftest import ApiClient, point

TIMEOUT = 10.0
ADMIN = FiguresKey(None, None)
LIMITED = FiguresKey(None, ("site a",))
NO_ALERTS = {level: {"open": 0, "unacknowledged": 0} for level in Level.values}


def create_alerts(device: str, number: int = 1, **fields: Any) -> None:
    at = timezone.now() - timedelta(minutes=5)
    Alert.objects.bulk_create(
        Alert(
            device=Device.objects.get(device_id=device),
            device_name=device,
            metric_name=f"m{index}",
            **{"level": Level.WARNING, "message": "Too warm", "triggered_at": at, "last_breach_at": at} | fields,
        )
        for index in range(number)
    )


@pytest.fixture
def fleet(gateway: ApiClient) -> None:
    """An online and an offline device in `site a`, another online one, and one without points."""
    for device, seconds_ago in (("press", 0.0), ("oven", 3600.0), ("mill", 0.0)):
        assert gateway.post(f"devices/{device}/telemetry", point(seconds_ago=seconds_ago)).status == 200
    Device.objects.create(device_id="new")
    group = DeviceGroup.objects.create(name="site a")
    group_membership.add_devices(
        group, list(Device.objects.filter(device_id__in=("press", "oven")).values_list("pk", flat=True))
    )
    last_seen.clear_cache()


def of(caller: Caller) -> dict[str, Any]:
    encoded = msgspec.json.encode(compute_figures(caller, SiteFigures.read(time.monotonic())))
    return msgspec.json.decode(encoded)


def test_figures_count_the_devices_and_alerts_of_each_state_and_level(fleet: None):
    create_alerts("press", 2)
    create_alerts("mill", 1, level=Level.CRITICAL, status=Status.ACKNOWLEDGED)
    create_alerts("mill", 4, level=Level.ERROR, status=Status.RESOLVED)
    create_alerts("oven", 4, level=Level.ERROR, shadow=True)
    figures = of(Caller.internal("test"))
    assert figures["devices"] == {"total": 4, "reporting": 2, "late": 0, "silent": 1, "never_heard": 1}
    assert figures["alerts"] == {
        "open": 3,
        "unacknowledged": 2,
        "by_level": NO_ALERTS
        | {"warning": {"open": 2, "unacknowledged": 2}, "critical": {"open": 1, "unacknowledged": 0}},
        "count_limit": MAX_COUNT,
    }
    assert set(figures) == {"devices", "last_seen", "alerts", "points_per_second", "last_commit"}
    assert figures["points_per_second"] >= 0 and figures["last_commit"] and figures["last_seen"]


def test_limited_caller_gets_figures_of_its_devices_only(fleet: None):
    create_alerts("press")
    create_alerts("mill", 3)
    limited, nobody, bound = (of(key.caller()) for key in (LIMITED, FiguresKey(None, ()), FiguresKey("mill", None)))
    assert limited["devices"] == {"total": 2, "reporting": 1, "late": 0, "silent": 1, "never_heard": 0}
    assert limited["alerts"]["open"] == 1
    assert nobody["devices"]["total"] == nobody["alerts"]["open"] == 0 and nobody["last_seen"] is None
    assert bound["devices"]["total"] == 1 and bound["alerts"]["open"] == 3


def test_site_without_points_has_figures(site: None):
    figures = of(Caller.internal("test"))
    assert figures["last_commit"] is None and figures["last_seen"] is None and figures["devices"]["total"] == 0


def test_keys_of_callers_with_the_same_groups_are_equal():
    callers = Caller("user:a", "read", groups=("b", "a")), Caller("key:1:x", "operate", groups=("a", "b"))
    assert FiguresKey.of(callers[0]) == FiguresKey.of(callers[1]) == FiguresKey(None, ("a", "b"))
    assert FiguresKey.of(Caller("user:a", "read", device_id="x")) == FiguresKey("x", None)
    assert FiguresKey.of(Caller.internal("x")) == ADMIN != FiguresKey.of(Caller("user:a", "read", groups=()))


class Frames(list[dict[str, Any]]):
    """A sink that keeps the decoded frames."""

    def offer(self, frame: bytes) -> None:
        self.append(msgspec.json.decode(frame))


async def wait_for(condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
    async with asyncio.timeout(timeout):
        while not (result := condition()):
            await asyncio.sleep(0.01)
        return result


@pytest.fixture
def feed() -> FiguresFeed:
    return FiguresFeed()


@pytest.mark.slow
async def test_sinks_with_the_same_key_share_one_computation(fleet: None, feed: FiguresFeed):
    sinks = [Frames() for _ in range(50)]
    for sink in sinks:
        feed.attach(ADMIN, sink.offer)
    await wait_for(lambda: all(sinks))
    assert feed.computations == 1
    late = Frames()
    feed.attach(ADMIN, late.offer)
    assert late == sinks[0] and feed.computations == 1  # the present frame, at once
    limited = Frames()
    feed.attach(LIMITED, limited.offer)
    await wait_for(lambda: limited)
    assert feed.computations == 2 and limited[0]["figures"]["devices"]["total"] == 2
    assert late[0]["type"] == late[0]["channel"] == "dashboard"
    for sink in (*sinks, late):
        feed.detach(ADMIN, sink.offer)
    feed.detach(LIMITED, limited.offer)


@pytest.mark.slow
async def test_equal_figures_are_sent_once(fleet: None, feed: FiguresFeed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(figures, "PERIOD", 0.01)
    monkeypatch.setattr(figures.request_history.RecentRequests, "points_per_second", 1.5)
    frames = Frames()
    feed.attach(ADMIN, frames.offer)
    await wait_for(lambda: feed.computations >= 3)
    assert len(frames) == 1
    await database_sync_to_async(create_alerts)("press")
    await wait_for(lambda: len(frames) == 2)
    assert frames[1]["figures"]["alerts"]["open"] == 1
    feed.detach(ADMIN, frames.offer)


@pytest.mark.slow
async def test_event_computes_the_figures_of_its_key_within_a_second(fleet: None, feed: FiguresFeed):
    frames, limited = Frames(), Frames()
    feed.attach(ADMIN, frames.offer)
    feed.attach(LIMITED, limited.offer)
    await wait_for(lambda: frames and limited)
    await database_sync_to_async(create_alerts)("press")
    await database_sync_to_async(Device.objects.create)(device_id="newer")
    for _ in range(100):  # a burst causes one computation
        feed.note_event(ADMIN, of_device=True)
    await wait_for(lambda: len(frames) == 2, 1.0)
    assert frames[1]["figures"]["alerts"]["open"] == 1 and frames[1]["figures"]["devices"]["never_heard"] == 2
    assert feed.computations == 3 and len(limited) == 1
    feed.detach(ADMIN, frames.offer)
    feed.detach(LIMITED, limited.offer)


async def test_nothing_is_computed_without_a_sink(fleet: None, feed: FiguresFeed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(figures, "PERIOD", 0.01)
    frames = Frames()
    feed.attach(ADMIN, frames.offer)
    await wait_for(lambda: frames)
    feed.detach(ADMIN, frames.offer)
    task = feed._task
    assert task is not None
    await wait_for(task.done)
    computed = feed.computations
    feed.note_event(ADMIN, of_device=True)
    await asyncio.sleep(0)
    assert feed.computations == computed and feed.keys == []


@pytest.mark.slow
async def test_failed_computation_is_repeated(
    fleet: None, feed: FiguresFeed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(figures, "PERIOD", 0.01)
    read, failures = SiteFigures.read, iter([RuntimeError("no memory"), figures.EXPECTED_ERRORS[0]("gone")])

    def fail_twice(since: float) -> SiteFigures:
        for failure in failures:
            raise failure
        return read(since)

    monkeypatch.setattr(SiteFigures, "read", fail_twice)
    frames = Frames()
    feed.attach(ADMIN, frames.offer)
    await wait_for(lambda: frames)
    assert "computing the dashboard figures failed" in caplog.text and "are delayed" in caplog.text
    feed.detach(ADMIN, frames.offer)


def test_last_seen_times_are_read_again_only_as_often_as_they_cost_little(fleet: None, monkeypatch: pytest.MonkeyPatch):
    first = last_seen.last_seen_since(0.0)
    assert last_seen.last_seen_since(0.0) is first
    began = time.monotonic()
    monkeypatch.setattr(last_seen, "_cache", last_seen._Cache(first, began, 1.0))
    assert last_seen.last_seen_since(time.monotonic()) is first  # the read took a second: not again for ten
    monkeypatch.setattr(last_seen, "_cache", last_seen._Cache(first, began, 0.0))
    assert last_seen.last_seen_since(time.monotonic()) is not first
