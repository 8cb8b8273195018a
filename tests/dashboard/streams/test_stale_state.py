"""Stale state plus events equals fresh state: with disconnects, resumes, overflows and changed rights."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connections, transaction
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from alerts.models import Rule
from dashboard.streams import channels, socket_writer
from metrics.devices import group_membership
from metrics.devices.state_changes import record_state_changes
from metrics.events.definitions import DeviceUpdated
from metrics.events.outbox import record_events
from metrics.export.jobs import run_pending_jobs
from metrics.models import Device, DeviceGroup, SilentDevice
from metrics.storage.connection import connect
from tests.conftest import ApiClient, point, stamp
from tests.dashboard.factories import open_alert
from tests.dashboard.streams.stream_client import open_path
from tests.web_process import second_web_process

pytestmark = pytest.mark.slow

CHANNELS = ["alerts", "devices", "jobs"]
STEPS = 60
CATCH_UP = 20.0  # seconds
SECRET = "secret"  # in the names of devices that the viewer never sees
SMALL_RING = 25


@dataclass
class State:
    """What a page shows: open alerts, devices and their state, and exports."""

    alerts: dict[str, tuple[str, str]] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    jobs: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, caller: ApiClient) -> "State":
        """Read the state through the API; the silent devices, which are in no list, from the database."""
        alerts = read_pages(caller, "alerts", "alerts", limit=200)
        devices = read_pages(caller, "devices", "devices", limit=200)
        jobs = read_pages(caller, "export/jobs", "jobs", limit=100)
        visible = {row["device_id"]: row["name"] for row in devices}
        silent = Device.objects.filter(pk__in=SilentDevice.objects.values("device_id"), device_id__in=list(visible))
        return cls(
            {row["alert_id"]: (row["status"], row["owner"]) for row in alerts if row["status"] != "resolved"},
            visible,
            set(silent.values_list("device_id", flat=True)),
            {row["id"]: row["status"] for row in jobs},
        )

    def apply(self, event: dict[str, Any]) -> None:
        """Apply an event, which may be a repeated one."""
        kind, data = event["type"], event["data"]
        family = kind.partition(".")[0]
        if family == "alert":
            self.alerts.pop(data["alert_id"], None)
            if data["status"] != "resolved":
                self.alerts[data["alert_id"]] = (data["status"], data["owner_name"])
        elif family == "job":
            self.jobs[data["job_id"]] = data["status"]
        elif kind == "device.silent":
            self.silent.add(data["device_id"])
        elif kind in ("device.back", "device.deleted"):
            self.silent.discard(data["device_id"])
        if kind == "device.deleted":
            self.devices.pop(data["device_id"], None)
        elif kind in ("device.created", "device.updated"):
            self.devices[data["device_id"]] = data["name"]


def read_pages(caller: ApiClient, path: str, name: str, **parameters: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while True:
        response = caller.get(f"{path}?{urlencode(parameters)}")
        assert response.status == 200, response.raw
        rows += response.json[name]
        if not response.json["next_cursor"]:
            return rows
        parameters["cursor"] = response.json["next_cursor"]


class PageModel(threading.Thread):
    """Reads its state once, and again only when the stream asks for it; loses its connection at random."""

    def __init__(self, callers: list[ApiClient], seed: int) -> None:
        super().__init__(daemon=True)
        self.callers, self.random = callers, random.Random(seed)
        self.state: State | None = None
        self.position: str | None = None
        self.counts: Counter[str] = Counter()
        self.texts: list[str] = []
        self.sentinel: str | None = None
        self.is_done = False
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.is_done:
                self.connect_once(self.random.choice(self.callers))
        except BaseException as error:  # raised again by the test
            self.failure = error
        finally:
            connections.close_all()

    def connect_once(self, caller: ApiClient) -> None:
        self.counts["connections"] += 1
        with open_path(caller, "/ws/live") as socket:
            resume = {"resume_from": self.position} if self.position else {}
            socket.send(json.dumps({"type": "subscribe", "channels": CHANNELS, **resume}))
            leave_at = time.monotonic() + self.random.uniform(0.05, 2.0)
            while not self.is_done and (self.sentinel is not None or time.monotonic() < leave_at):
                if self.random.random() < 0.02:
                    time.sleep(self.random.uniform(0.1, 0.5))  # a page that is busy
                self.receive_one(socket, caller)
            if self.random.random() < 0.5:
                socket.socket.close()  # without a closing handshake

    def receive_one(self, socket: ClientConnection, caller: ApiClient) -> None:
        try:
            text = str(socket.recv(0.1))
        except TimeoutError:
            return
        except ConnectionClosed:
            raise AssertionError(f"closed: {self.texts[-1:]}") from None
        self.texts.append(text)
        frame = json.loads(text)
        self.counts[frame["type"]] += 1
        if frame["type"] == "subscribed":
            self.position = frame["position"]
            if self.state is None:
                self.state = State.read(caller)
        elif frame["type"] == "resync":
            self.counts[frame["reason"]] += 1
            self.state = State.read(caller)
        elif frame["type"] == "event":
            assert self.state is not None
            self.position = frame["position"]
            self.state.apply(frame["event"])
            self.is_done = frame["event"]["subject"] == self.sentinel


class Changes:
    """Random changes through the API of either process, and by the worker's functions."""

    def __init__(self, admins: list[ApiClient], group: DeviceGroup, rule: Rule, seed: int) -> None:
        self.admins, self.group, self.rule, self.random = admins, group, rule, random.Random(seed)
        self.names = [f"device {number}" for number in range(6)] + [f"{SECRET} {number}" for number in range(3)]

    def make(self) -> None:
        self.random.choice(
            [self.open, self.open, self.act, self.act, self.act, self.change_device, self.change_members,
             self.report, self.report, self.export, self.burst]
        )()  # fmt: skip

    @property
    def admin(self) -> ApiClient:
        return self.random.choice(self.admins)

    def open(self) -> None:
        rule = Rule.objects.create(name=f"rule {self.random.random()}", metric_name="m", level="warning")
        open_alert(rule, self.random.choice(self.names), "Too warm", metric_name="m")

    def act(self) -> None:
        alerts = read_pages(self.admin, "alerts", "alerts", limit=200)
        if alerts:  # open and resolved ones
            path = f"alerts/{self.random.choice(alerts)['alert_id']}"
            verb, body = self.random.choice(
                [("acknowledge", {}), ("resolve", {}), ("assign", {"owner": "user:administrator"})]
            )
            assert self.admin.call("PUT", f"{path}/{verb}", body).status in (200, 409)

    def change_device(self) -> None:
        name = self.random.choice(self.names)
        if Device.objects.filter(device_id=name).exists():
            if self.random.random() < 0.3:
                assert self.admin.call("DELETE", f"devices/{name.replace(' ', '%20')}").status in (200, 202)
            else:
                body = {"name": f"{name} renamed {self.random.randint(0, 9)}"}
                assert self.admin.call("PATCH", f"devices/{name.replace(' ', '%20')}", body).status == 200
        else:
            assert self.admin.post("devices", {"device_id": name}).status == 201

    def change_members(self) -> None:
        pks = Device.objects.filter(device_id=self.random.choice(self.names[:6])).values_list("pk", flat=True)
        change = self.random.choice([group_membership.add_devices, group_membership.remove_devices])
        change(self.group, list(pks))

    def report(self) -> None:
        """Send old or new points, and record which devices are silent."""
        seconds_ago = self.random.choice([0, 600])
        body = {name: [point("t", 1, seconds_ago)] for name in self.random.sample(self.names, 3)}
        assert self.admin.post("bulk", body).status == 200
        with connect() as connection:
            record_state_changes(connection)

    def export(self) -> None:
        name = self.random.choice(self.names)
        if not Device.objects.filter(device_id=name).exists():
            return
        body = {"device_ids": [name], "metric_names": ["t"], "start_time": stamp(3600), "end_time": stamp(0)}
        assert self.admin.post("export/jobs", body).status in (202, 404, 429)
        if self.random.random() < 0.7:
            run_pending_jobs()

    def burst(self) -> None:
        """More events than the ring holds, in one transaction."""
        device = Device.objects.filter(device_id__startswith="device").first()
        if device is not None:
            with transaction.atomic():
                event = DeviceUpdated(device_id=device.device_id, name=device.name, changed=[])
                record_events([event] * (SMALL_RING + self.random.choice([-15, 0, 15])))


@pytest.fixture
def small_rings(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Any) -> None:
    """In this process; the second one has rings of the usual size."""
    monkeypatch.setattr(socket_writer, "MAX_EVENTS", SMALL_RING)
    monkeypatch.setattr(channels, "MAX_EVENTS", SMALL_RING)
    settings.EXPORTS_DIR = tmp_path / "exports"


@pytest.fixture
def second_process(administrator: ApiClient) -> Iterator[ApiClient]:
    with second_web_process(administrator) as there:
        yield there


@pytest.mark.parametrize("seed", range(2))
def test_stale_state_and_events_equal_fresh_state(
    administrator: ApiClient, viewer: ApiClient, second_process: ApiClient, small_rings: None, seed: int
):
    group = DeviceGroup.objects.get(name="site a")
    rule = Rule.objects.create(name="Too warm", metric_name="temperature", level="warning")
    changes = Changes([administrator, second_process], group, rule, seed)
    for _ in range(10):
        changes.make()
    group_membership.add_devices(
        group, list(Device.objects.filter(device_id__in=changes.names[:3]).values_list("pk", flat=True))
    )
    pages = [
        PageModel([administrator, second_process], seed),
        PageModel([administrator, second_process], seed + 100),
        PageModel([viewer, ApiClient(second_process.port, viewer.headers)], seed + 200),
    ]
    for page in pages:
        page.start()
    for _ in range(STEPS):
        changes.make()
        time.sleep(changes.random.choice([0, 0, 0.05, 0.2]))
    last = open_alert(rule, "device last", "The last event")
    group_membership.add_devices(group, [last.device.pk])  # type: ignore[union-attr]
    deadline = time.monotonic() + CATCH_UP
    for page in pages:
        page.sentinel = f"alert/{last.alert_id}"
    sentinel = 0
    while not all(page.is_done or page.failure for page in pages):
        assert time.monotonic() < deadline, [page.counts for page in pages]
        sentinel += 1
        administrator.post(f"alerts/{last.alert_id}/comments", {"note": str(sentinel)})
        time.sleep(0.2)
    for page in pages:
        page.join(CATCH_UP)
        assert page.failure is None, (page.failure, page.counts)
    assert_equal_to_fresh_state(pages, administrator, viewer)


def assert_equal_to_fresh_state(pages: list[PageModel], administrator: ApiClient, viewer: ApiClient) -> None:
    for page, caller in zip(pages, (administrator, administrator, viewer), strict=True):
        assert page.state == State.read(caller), page.counts
        assert page.counts["connections"] > 2, page.counts
    assert sum(page.counts["event"] for page in pages) > 100
    assert not any(SECRET in text for text in pages[-1].texts)
    assert any(page.counts["overflow"] for page in pages) and pages[-1].counts["rights"]
