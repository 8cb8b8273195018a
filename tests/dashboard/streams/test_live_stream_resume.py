"""Resuming the streams /ws/live and /sse/live at a position: missed events, resyncs, and Last-Event-ID."""

import itertools

import pytest
from django.db import connection

from dashboard.streams import socket_writer
from tests.conftest import ApiClient, point
from tests.dashboard.streams.live_stream_client import (
    back,
    next_event,
    open_live,
    record,
    silent,
    subjects_until,
    subscribe,
)
from tests.dashboard.streams.stream_client import TIMEOUT, EventStream, receive
from tests.telemetry_site.site_process import wait_until

# --- resuming ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_missed_events_are_sent_after_a_resume(administrator: ApiClient):
    with open_live(administrator) as socket:
        subscribe(socket, "devices")
        record(silent("a"))
        position = receive(socket, "event")["position"]
    record(silent("b"))
    record(silent("c"))
    with open_live(administrator) as socket:
        answer = subscribe(socket, "devices", resume_from=position)
        assert answer["position"] == position
        frames = [receive(socket, "event")]
        while frames[-1]["event"]["subject"] != "device/c":
            frames.append(receive(socket, "event"))
        subjects = [frame["event"]["subject"] for frame in frames]
        assert subjects[-2:] == ["device/b", "device/c"] and set(subjects) <= {"device/a", "device/b", "device/c"}
        assert frames[-1]["position"] != position


def test_received_events_are_not_repeated_once_earlier_transactions_have_ended(administrator: ApiClient):
    with open_live(administrator) as socket:
        position = subscribe(socket, "devices")["position"]
    names = (f"press {number}" for number in itertools.count())

    def is_without_repeats() -> bool:
        nonlocal position
        name = next(names)
        record(silent(name))
        with open_live(administrator) as socket:
            subscribe(socket, "devices", resume_from=position)
            frames = [receive(socket, "event")]
            while frames[-1]["event"]["subject"] != f"device/{name}":
                frames.append(receive(socket, "event"))
        position = frames[-1]["position"]
        return name != "press 0" and len(frames) == 1

    wait_until(is_without_repeats, TIMEOUT, "only the new event")


@pytest.mark.slow
@pytest.mark.parametrize(("change", "reason"), [("epoch", "epoch"), ("future", "future"), ("old", "too_old")])
def test_resume_that_is_not_possible_is_answered_with_a_resync(administrator: ApiClient, change: str, reason: str):
    record(silent("a"), silent("b"))
    with open_live(administrator) as socket:
        epoch, offset = subscribe(socket, "devices")["position"].split(".")
        if change == "old":
            with connection.cursor() as cursor:  # as the task does that deletes old events
                cursor.execute("DELETE FROM metrics_event WHERE data ->> 'device_id' = 'a'")
        resume_from = {
            "epoch": f"00000000.{offset}",
            "future": f"{epoch}.{int(offset) + 1_000_000}",
            "old": f"{epoch}.3",
        }[change]
        subscribe(socket, "devices", resume_from=resume_from)
        assert receive(socket, "resync") == {"type": "resync", "channel": None, "reason": reason}
        record(silent("c"))
        assert next_event(socket)["subject"] == "device/c"


@pytest.mark.slow
def test_more_than_a_ring_of_missed_events_become_one_resync(administrator: ApiClient):
    with open_live(administrator) as socket:
        position = subscribe(socket, "devices")["position"]
    record(*(silent(str(number)) for number in range(socket_writer.MAX_EVENTS + 1)))
    with open_live(administrator) as socket:
        subscribe(socket, "devices", resume_from=position)
        assert receive(socket, "resync")["reason"] == "overflow"
        record(silent("next"))
        assert subjects_until(socket, "device/next")[-1] == "device/next"
    with open_live(administrator) as socket:  # events of other channels do not count
        subscribe(socket, "alerts", resume_from=position)
        subscribe(socket, "devices")
        record(silent("last"))
        assert receive(socket, "event")["event"]["subject"] == "device/last"


# --- server-sent events -----------------------------------------------------------------------------


@pytest.mark.slow
def test_server_sent_events_carry_the_same_frames(administrator: ApiClient, gateway: ApiClient):
    assert gateway.post("devices/a/telemetry", point()).status == 200
    with EventStream(administrator, "/sse/live?channels=devices,dashboard&device_ids=a&max_frequency=100") as stream:
        frames = [stream.next() for _ in range(3)]
        assert {frame["type"] for frame in frames if frame} == {"subscribed", "snapshot", "dashboard"}
        record(silent())
        while (frame := stream.next()) is not None and frame["type"] != "event":
            continue
        assert frame is not None and frame["event"]["type"] == "device.silent"
        last_id = stream.fields["id"]
        assert last_id == frame["position"]
    record(back())
    with EventStream(administrator, "/sse/live?channels=devices", Last_Event_ID=last_id) as stream:
        types = []
        while not types or types[-1] != "device.back":
            frame = stream.next()
            assert frame is not None
            types.append(frame["event"]["type"] if frame["type"] == "event" else frame["type"])
        assert types[0] == "subscribed"


@pytest.mark.slow
def test_id_of_server_sent_events_is_the_position_of_events_only(administrator: ApiClient, gateway: ApiClient):
    """A position of values in `Last-Event-ID` could be ahead of events that were not sent."""
    assert gateway.post("devices/a/telemetry", point()).status == 200
    path = "/sse/live?channels=devices&device_ids=a&max_frequency=100"
    with EventStream(administrator, path) as stream:
        ids = {}
        while "points" not in ids:
            frame = stream.next()
            assert frame is not None
            ids[frame["type"]] = stream.fields.get("id"), frame.get("position")
            if frame["type"] == "snapshot":
                assert gateway.post("devices/a/telemetry", point(value=1)).status == 200
        assert ids["subscribed"][0] == ids["subscribed"][1] and ids["snapshot"][0] is ids["points"][0] is None
    record(silent())
    with EventStream(administrator, path, Last_Event_ID=str(ids["subscribed"][0])) as stream:
        while (frame := stream.next()) is not None and frame["type"] != "event":
            assert frame["type"] in ("subscribed", "snapshot")
        assert frame is not None and frame["event"]["type"] == "device.silent"
