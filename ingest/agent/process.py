"""The process of the agent: one agent after the other, a new one for each configuration or program of the site."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

from ingest.agent.config import read_config
from ingest.agent.daemon import Agent, Ending
from ingest.agent.machine_clock import MachineClock
from ingest.agent.updates import Updater

log = logging.getLogger(__name__)


class AgentProcess:
    """Runs agents until it is stopped."""

    def __init__(self, config_path: Path) -> None:
        self._config = read_config(config_path)
        self._updater = Updater(Path(sys.argv[0]).resolve(), config_path, self._config)
        self._stopped = threading.Event()
        self._agent: Agent | None = None

    def stop_at_signals(self) -> None:
        """Stop at SIGTERM and SIGINT. A handler runs between any two steps of the main thread, which may hold locks."""
        signals: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: signals.put(number))

        def stop() -> None:
            signals.get()
            self._stopped.set()
            if self._agent is not None:
                self._agent.stop()

        threading.Thread(target=stop, daemon=True, name="stop").start()

    def run(self) -> int:
        """Run; return the exit status, which is 1 if the agent failed."""
        clock = MachineClock()
        ending = Ending.RECONFIGURED
        while ending is Ending.RECONFIGURED or ending is Ending.UPDATE:
            self._agent = Agent(self._config, self._updater, clock)
            if self._stopped.is_set():
                self._agent.stop()
            ending = self._agent.run()
            if ending is Ending.UPDATE and self._updater.install(self._stopped.wait):
                os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - this program, replaced
        log.info("stopped")
        return 1 if ending is Ending.FAILED else 0
