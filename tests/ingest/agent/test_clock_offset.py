"""Learning of the clock offset and correction of measured times."""

from ingest.agent.machine_clock import parse_rfc3339, rfc3339
from ingest.agent.queue import TelemetryQueue
from ingest.agent.sender import Sender
from tests.ingest.agent.conftest import START, ManualClock, RecordingSite, send_all, snapshot


def test_time_of_a_right_clock_is_sent_as_measured(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue], clock: ManualClock
) -> None:
    sending, queue = sender
    recording_site.date = START + 40
    for _ in range(2):
        queue.enqueue({**snapshot(1), "timestamp": rfc3339(clock.time())})
        send_all(sending)
    assert {time for _, time, _ in recording_site.stored} == {rfc3339(START)}


def test_time_of_a_wrong_clock_is_corrected_to_the_same_time_at_each_attempt(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue], clock: ManualClock
) -> None:
    sending, queue = sender
    clock.now = 1000.0  # 1970
    recording_site.answers += [(503, {}, b""), (503, {}, b"")]
    queue.enqueue({**snapshot(1), "timestamp": rfc3339(clock.time())})
    sending.step()
    clock.advance(7200)
    recording_site.date = START + 7201
    sending.step()
    recording_site.date = START + 7203
    send_all(sending)
    ((_, sent_time, _),) = {key for key in recording_site.stored if key[2] == "number"}
    assert abs((parse_rfc3339(sent_time) or 0) - START) < 3


def test_time_after_the_clock_was_set_is_corrected_for_the_snapshots_before(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue], clock: ManualClock
) -> None:
    sending, queue = sender
    clock.now = 1000.0
    queue.enqueue({**snapshot(1), "timestamp": rfc3339(clock.time())})
    clock.advance(100)
    clock.now = START  # by NTP
    recording_site.date = START
    send_all(sending)
    ((_, sent_time, _),) = {key for key in recording_site.stored if key[2] == "number"}
    assert abs((parse_rfc3339(sent_time) or 0) - (START - 100)) < 3


def test_old_time_of_a_local_program_is_never_corrected(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue], clock: ManualClock
) -> None:
    sending, queue = sender
    old = rfc3339(clock.time() - 86400)
    for _ in range(2):
        queue.enqueue({**snapshot(1), "timestamp": old})
        send_all(sending)
    assert {time for _, time, _ in recording_site.stored} == {old}
