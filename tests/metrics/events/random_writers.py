"""Writers whose transactions overlap, last random times and sometimes roll back."""

import random
import threading
from collections.abc import Iterable

from django.db import connection, connections, transaction

from metrics.events.definitions import DeviceCreated
from metrics.events.outbox import record_event

WRITERS = 8


class RandomWriters:
    """Eight threads that each record events `<writer>.<number>` in transactions of up to `max_pause` seconds."""

    def __init__(self, seed: int, rounds: int, max_pause: float) -> None:
        chance = random.Random(seed)
        # A fifth of the transactions fails; a quarter is slow.
        self._plans = [
            [(chance.random() * max_pause * (number % 4 == 0), chance.random() < 0.2) for number in range(rounds)]
            for _ in range(WRITERS)
        ]
        self._threads = [threading.Thread(target=self._write, args=(writer,)) for writer in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    @property
    def have_ended(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def check(self, received: Iterable[str | None]) -> None:
        """Fail unless these are exactly the committed events, those of each writer in its order."""
        names = [str(name) for name in received]
        assert sorted(names) == sorted(
            f"{writer}.{number}"
            for writer, plan in enumerate(self._plans)
            for number, (_, fails) in enumerate(plan)
            if not fails
        )
        for writer in range(WRITERS):
            numbers = [int(name.split(".")[1]) for name in names if name.startswith(f"{writer}.")]
            assert numbers == sorted(numbers)

    def _write(self, writer: int) -> None:
        for number, (pause, fails) in enumerate(self._plans[writer]):
            try:
                with transaction.atomic(), connection.cursor() as cursor:
                    record_event(DeviceCreated(device_id=f"{writer}.{number}"))
                    cursor.execute("SELECT pg_sleep(%s)", (pause,))
                    if fails:
                        raise InterruptedError
            except InterruptedError:
                continue
        connections.close_all()
