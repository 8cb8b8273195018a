"""A program that the kill test ends at random moments: queues numbered snapshots and sends them.

Arguments: queue file, URL, first number, 1 to send until the queue is empty or 0 to add snapshots until killed, and the
seconds between two. Prints each number that was accepted.
"""

import sys
import threading
import time
from itertools import count

from ingest.agent.clock_offset import ClockOffset
from ingest.agent.machine_clock import MachineClock
from ingest.agent.poster import TelemetryPoster
from ingest.agent.queue import TelemetryQueue
from ingest.agent.sender import POLL_TIME, Sender
from tests.ingest.agent.conftest import snapshot


def main() -> None:
    path, url, first, finish, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1", float(sys.argv[5])
    clock = MachineClock()
    queue = TelemetryQueue(path, max_size=10**6, clock=clock)
    poster = TelemetryPoster(url, retry_backoff=[0.02, 0.05], timeout=2)
    sender = Sender(queue, poster, ClockOffset(queue, clock))
    if finish:
        while sender.step() != POLL_TIME:
            pass
        print(queue.get_stats())
        return
    threading.Thread(target=sender.run, args=(threading.Event().wait,), daemon=True).start()
    for value in count(first):
        queue.enqueue(snapshot(value))
        sys.stdout.write(f"{value}\n")
        sys.stdout.flush()
        time.sleep(pause)


main()
