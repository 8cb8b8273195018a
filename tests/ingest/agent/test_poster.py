"""The HTTP client, the sender and the clock offset against a real HTTP server."""

import itertools
import socket
import threading
import time
from contextlib import closing
from email.utils import formatdate
from pathlib import Path

import pytest

from ingest.agent.answers import MAX_RETRY_AFTER, parse_retry_after
from ingest.agent.poster import TelemetryPoster
from ingest.agent.queue import TelemetryQueue
from ingest.agent.sender import Sender
from tests.ingest.agent.conftest import (
    STORED,
    PostTo,
    RecordingSite,
    numbers,
    send_all,
    snapshot,
)


def test_documented_example(recording_site: RecordingSite, post_to: PostTo) -> None:
    poster = post_to(recording_site.url, jwt_token="a.b.c", retry_backoff=[5, 15, 60], timeout=10)
    assert poster.post_snapshot(snapshot(1)) == (True, None)
    assert poster.post_with_retry(snapshot(2), retry_count=0) is True
    assert {request["key"] for request in recording_site.requests} == {"Bearer a.b.c"}
    assert {request["path"] for request in recording_site.requests} == {"/api/telemetry/snapshot"}
    assert len({request["port"] for request in recording_site.requests}) == 1, "the connection is not kept"


def test_unreachable_site_is_a_connection_error(post_to: PostTo) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        port = unused.getsockname()[1]
    assert post_to(f"http://127.0.0.1:{port}").post_snapshot(snapshot(1)) == (False, "connection_error")


def test_connection_that_the_server_closed_while_idle_is_opened_again(
    recording_site: RecordingSite, post_to: PostTo
) -> None:
    poster = post_to(recording_site.url)
    recording_site.answers.append((200, {"Connection": "close"}, STORED))
    assert [poster.post_snapshot(snapshot(number)) for number in range(3)] == [(True, None)] * 3


@pytest.mark.parametrize(
    ("answer", "code", "kept"),
    [
        ((200, {}, b"<html>log in to the wireless network</html>"), "not_the_site", True),
        ((200, {}, b'{"hello": 1}'), "not_the_site", True),
        ((204, {}, b""), "not_the_site", True),
        ((302, {"Location": "http://elsewhere"}, b""), "http_302", True),
        ((401, {}, b'{"detail": "no"}'), "http_401", True),
        ((403, {}, b'{"detail": "no"}'), "http_403", True),
        ((404, {}, b"<html>no such page</html>"), "http_404", True),
        ((408, {}, b""), "http_408", True),
        ((425, {}, b""), "http_425", True),
        ((429, {}, b""), "http_429", True),
        ((500, {}, b""), "http_500", True),
        ((503, {}, b""), "http_503", True),
        ((400, {}, b'{"detail": "timestamp"}'), "http_400", False),
        ((404, {}, b'{"detail": "no such route"}'), "http_404", False),
        ((409, {}, b""), "http_409", False),
        ((413, {}, b""), "http_413", False),
        ((422, {}, b""), "http_422", False),
    ],
)
def test_answer_keeps_or_drops_the_snapshot(
    recording_site: RecordingSite,
    sender: tuple[Sender, TelemetryQueue],
    post_to: PostTo,
    answer: tuple[int, dict[str, str], bytes],
    code: str,
    kept: bool,
) -> None:
    recording_site.answers += [answer, answer]
    assert post_to(recording_site.url).post_snapshot(snapshot(1)) == (False, code)
    sending, queue = sender
    queue.enqueue(snapshot(1))
    pause = sending.step()
    assert (pause > 0, queue.get_queue_size()) == ((True, 1) if kept else (False, 0))
    assert queue.get_stats()["dropped"]["rejected"] == (0 if kept else 1)
    assert numbers(recording_site) == []
    assert send_all(sending) == ([0.0] if kept else [])
    assert numbers(recording_site) == ([1] if kept else [])


def test_pauses_grow_with_jitter_and_never_end(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue]
) -> None:
    sending, queue = sender
    queue.enqueue(snapshot(1))
    recording_site.answers += [(503, {}, b"")] * 20
    pauses = send_all(sending)[:20]
    for pause, full in zip(pauses, [5, 15, *[60] * 18], strict=True):
        assert 0.8 * full <= pause <= 1.2 * full
    assert len(set(pauses[2:])) > 10
    assert numbers(recording_site) == [1]


def test_retry_after_is_waited_for(recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue]) -> None:
    sending, queue = sender
    queue.enqueue(snapshot(1))
    recording_site.answers += [(429, {"Retry-After": "120"}, b""), (503, {"Retry-After": "1"}, b"")]
    pauses = send_all(sending)
    assert pauses[0] == 120
    assert 12 <= pauses[1] <= 18


def test_retry_after_is_a_number_or_a_date_of_at_most_an_hour() -> None:
    assert 50 < parse_retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert parse_retry_after("9" * 30) == MAX_RETRY_AFTER
    assert [parse_retry_after(text) for text in (None, "", "soon", "-1", "٣", "Mon, 99 Foo")] == [0.0] * 6


def test_post_with_retry_uses_each_pause_once(recording_site: RecordingSite, post_to: PostTo) -> None:
    waits: list[float] = []
    poster = post_to(recording_site.url, retry_backoff=[1, 2], wait=waits.append)
    recording_site.answers += [(503, {}, b"")] * 3
    assert poster.post_with_retry(snapshot(1)) is False
    assert [round(wait) for wait in waits] == [1, 2]
    recording_site.answers.append((400, {}, b""))
    assert poster.post_with_retry(snapshot(1)) is False
    assert len(waits) == 2
    recording_site.answers.append((503, {}, b""))
    assert poster.post_with_retry(snapshot(1), retry_count=1) is True


def test_replaced_key_is_read_again(recording_site: RecordingSite, post_to: PostTo, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("tk_old\n")
    poster = post_to(recording_site.url, key_file=key_file)
    key_file.write_text("tk_new\n")
    recording_site.answers.append((401, {}, b"{}"))
    assert poster.post_snapshot(snapshot(1)) == (True, None)
    assert [request["key"] for request in recording_site.requests] == ["Bearer tk_old", "Bearer tk_new"]


def test_queue_is_caught_up_in_compressed_batches_in_order(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue]
) -> None:
    sending, queue = sender
    queue.enqueue_many([snapshot(number) for number in range(900)])
    send_all(sending)
    assert numbers(recording_site) == list(range(900))
    assert {request["path"] for request in recording_site.requests} == {"/api/v1/telemetry/bulk"}
    assert len(recording_site.requests) < 10
    assert {request["encoding"] for request in recording_site.requests} == {"zstd"}


def test_batch_over_the_site_limit_is_split(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue]
) -> None:
    sending, queue = sender
    recording_site.max_body = 20_000
    queue.enqueue_many([snapshot(number, text="x" * 500) for number in range(200)])
    send_all(sending)
    assert numbers(recording_site) == list(range(200))
    assert queue.get_stats()["dropped_total"] == 0


def test_only_the_rejected_snapshot_of_a_batch_is_dropped(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue]
) -> None:
    sending, queue = sender
    queue.enqueue_many([snapshot(number, **({"poison": 1} if number in (0, 37) else {})) for number in range(100)])
    send_all(sending)
    assert numbers(recording_site) == [number for number in range(100) if number not in (0, 37)]
    assert queue.get_stats()["dropped"]["rejected"] == 2


def test_site_without_bulk_endpoint_gets_single_snapshots(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue]
) -> None:
    sending, queue = sender
    recording_site.has_bulk = False
    queue.enqueue_many([snapshot(number) for number in range(5)])
    send_all(sending)
    assert numbers(recording_site) == [0, 1, 2, 3, 4]
    assert [request["path"] for request in recording_site.requests].count("/api/v1/telemetry/bulk") == 1


def test_snapshot_without_device_is_sent_alone_and_words_the_site_error(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue]
) -> None:
    sending, queue = sender
    recording_site.answers.append((400, {}, b'{"detail": "node_id: the field is missing"}'))
    queue.enqueue_many([{"cpu_percent": 1.0}, snapshot(1), snapshot(2)])
    send_all(sending)
    assert recording_site.requests[0]["path"] == "/api/telemetry/snapshot"
    assert numbers(recording_site) == [1, 2]


def test_values_that_the_site_rejected_are_counted(
    recording_site: RecordingSite, sender: tuple[Sender, TelemetryQueue]
) -> None:
    sending, queue = sender
    recording_site.answers.append((200, {}, b'{"success": true, "failed_count": 3, "errors": []}'))
    queue.enqueue(snapshot(1))
    send_all(sending)
    assert (queue.get_stats()["points_rejected"], queue.get_stats()["sent"]) == (3, 1)


@pytest.mark.slow
def test_answer_that_arrives_after_its_head_is_read_although_the_server_closes(post_to: PostTo) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 17\r\n\r\n"
    with closing(DrippingServer(head, b'{"success": true}')) as server:
        assert post_to(server.url, timeout=5).post_snapshot(snapshot(1)) == (True, None)


class DrippingServer:
    """Answers with a byte every 20 ms: in the headers or in the body, forever unless there is a rest."""

    def __init__(self, start: bytes, rest: bytes = b"") -> None:
        self._start, self._rest = start, rest
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            connection, _ = self._socket.accept()
            with connection:
                connection.sendall(self._start)
                for byte in self._rest or itertools.repeat(ord("x")):
                    connection.sendall(bytes([byte]))
                    time.sleep(0.02)
        except OSError:
            return

    def close(self) -> None:
        self._socket.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"],
    ids=["status line", "headers", "body"],
)
def test_dripping_server_cannot_hold_the_sender(post_to: PostTo, start: bytes) -> None:
    with closing(DrippingServer(start)) as server:
        started = time.perf_counter()
        assert post_to(server.url, timeout=0.3).post_snapshot(snapshot(1)) == (False, "timeout")
        assert time.perf_counter() - started < 0.45


@pytest.mark.slow
def test_server_that_never_reads_cannot_hold_the_sender(post_to: PostTo) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        poster = post_to(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
        assert poster.post_snapshot({**snapshot(1), "text": "".join(map(chr, range(33, 200000)))[:900_000]}) == (
            False,
            "timeout",
        )


def test_endless_answer_is_not_read_to_its_end(post_to: PostTo, recording_site: RecordingSite) -> None:
    recording_site.answers.append((200, {}, b"x" * 5_000_000))
    assert post_to(recording_site.url).post_snapshot(snapshot(1)) == (False, "not_the_site")


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://x:99999", "host:80"])
def test_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="backend_url"):
        TelemetryPoster(url)
