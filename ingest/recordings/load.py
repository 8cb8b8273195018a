"""Loads a recording: reads, defines, hands over to the pipeline, remembers how far it came."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path

from ingest.pipeline import Receipt, accept
from ingest.recordings.definitions import Definitions
from ingest.recordings.header import Roles, roles_of
from ingest.recordings.localtime import LocalTime
from ingest.recordings.progress import Ledger, Progress
from ingest.recordings.rows import RowReader, Rows, batch_of, parts
from ingest.recordings.source import Source, Unreadable, fingerprint
from ingest.recordings.tally import Tally
from ingest.wire.batch import Batch, RequestRejected
from rest.caller import Caller

SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be loaded, and how. A device or metric that is given goes before the file's own column."""

    path: str
    device: str | None
    metric: str | None
    zone: tzinfo
    until_now: bool = False
    batch: int = 20_000
    place: str = ""  # which database: progress made in another one counts for nothing here

    @property
    def is_stream(self) -> bool:
        """Whether it can be read only once: standard input, or a pipe by name."""
        path = Path(self.path)
        return self.path == "-" or path.is_fifo() or path.is_char_device()

    def ledger(self, folder: Path) -> Ledger:
        if self.is_stream:
            return Ledger(folder)
        mark = fingerprint(Path(self.path))
        return Ledger(folder, mark, str(self.device), str(self.metric), str(self.zone), str(self.until_now), self.place)


@dataclass(slots=True)
class Outcome:
    """What a load has done so far."""

    tally: Tally
    progress: Progress
    definitions: Definitions
    ambiguous: int = 0
    resumed_behind: int = 0  # rows that an earlier run had loaded
    is_again: bool = False  # shifted as when it was loaded before
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Rows a second of this run."""
        return (self.tally.rows - self.resumed_behind) / max(self.seconds, 1e-9)


@dataclass(slots=True)
class _Sent:
    """A piece under way; `mark` is set on the last of a block."""

    rows: Rows
    receipt: "Future[Receipt] | None"
    mark: Progress | None = field(default=None)


class Load:
    """One run. `told` is called after every piece with what is done and the part of the file that was read."""

    def __init__(
        self, order: Order, folder: Path, told: Callable[[Outcome, float | None], None] = lambda *_: None
    ) -> None:
        self._order, self._folder, self._told = order, folder, told
        self._sender = Caller.internal("load")
        self._began = time.monotonic()
        self._is_again = False

    def run(self) -> Outcome:
        """Raises Unreadable, StorageUnavailable; what was stored by then stays stored, and the next run goes on."""
        with tempfile.TemporaryDirectory() as spool:
            path = self._spooled(Path(spool)) if self._order.is_stream and self._order.until_now else self._order.path
            source = Source(path)
            try:
                return self._load(source, path)
            finally:
                source.close()

    def _spooled(self, folder: Path) -> str:
        """A stream as a file: where it ends must be known before its beginning can be shifted."""
        file = folder / "stream"
        with file.open("wb") as out:
            if self._order.path == "-":
                shutil.copyfileobj(sys.stdin.buffer, out)
            else:
                with Path(self._order.path).open("rb") as stream:
                    shutil.copyfileobj(stream, out)
        return str(file)

    def _load(self, source: Source, path: str) -> Outcome:
        ledger = self._order.ledger(self._folder)
        roles, metric = self._roles(source)
        progress = ledger.read()
        if progress.finished or not progress.end_line:
            progress = Progress(0, 1 if roles.headless else 2, *self._shift(path, progress))
            ledger.write(progress)  # before the first point: a run that follows must shift by the same
        outcome = Outcome(Tally.of_json(progress.tally) if progress.tally else Tally(), progress, Definitions())
        outcome.resumed_behind, outcome.is_again = outcome.tally.rows, self._is_again
        if progress.end:
            source.skip(progress.end)
        local = LocalTime(self._order.zone)
        local.restore(progress.clock)
        reader = RowReader(roles, self._order.device, metric, local, progress.shift)
        self._began = time.monotonic()
        with ThreadPoolExecutor(1, "load") as pool:
            before: _Sent | None = None
            for sent in self._pieces(source, reader, local, outcome, pool):
                if before is not None:
                    self._settle(before, outcome, ledger, source)
                before = sent
            if before is not None:
                self._settle(before, outcome, ledger, source)
        outcome.progress.finished = True
        ledger.write(outcome.progress)
        return outcome

    def _roles(self, source: Source) -> tuple[Roles, str | None]:
        """What the columns are, and the metric where no column says it."""
        roles = roles_of(source.header())
        if roles.headless:
            source.put_header_back()
        metric = self._order.metric
        if self._order.device is None and roles.device is None:
            raise Unreadable("--device is needed: the file has no column device_id")
        if metric is None and roles.metric is None:
            if self._order.is_stream:
                raise Unreadable("--metric is needed: a stream has no name, and this one has no column metric_name")
            metric = Path(self._order.path).name.removesuffix(".gz").removesuffix(".csv")
        return roles, metric

    def _shift(self, path: str, earlier: Progress) -> tuple[int, int | None]:
        """(µs that all times move, the newest time then).

        Those of an earlier run where a second copy would lie over the first.
        """
        if not self._order.until_now:
            return 0, None
        newest, oldest = self._span(path)
        if newest is None or oldest is None:
            return 0, None
        now = time.time_ns() // 1000 // SECOND * SECOND
        fresh = now - newest
        if earlier.newest is not None and oldest + fresh <= earlier.newest:
            self._is_again = True
            return earlier.shift, earlier.newest
        return fresh, now

    def _span(self, path: str) -> tuple[int | None, int | None]:
        """The newest and the oldest time of the file."""
        source = Source(path)
        try:
            roles, metric = self._roles(source)
            reader = RowReader(roles, self._order.device, metric, LocalTime(self._order.zone))
            found = [span for block in source.blocks(roles.width, 1) if (span := reader.span(block)) is not None]
        finally:
            source.close()
        return max((high for _, high in found), default=None), min((low for low, _ in found), default=None)

    def _pieces(
        self, source: Source, reader: RowReader, local: LocalTime, outcome: Outcome, pool: ThreadPoolExecutor
    ) -> Iterator[_Sent]:
        """Hands piece after piece to the pipeline, each while the one before is being stored."""
        progress = outcome.progress
        for block in source.blocks(reader.width, progress.end_line):
            pieces = parts(block, self._order.batch)
            for number, piece in enumerate(pieces):
                rows = reader.read(piece)
                kinds = outcome.definitions.hold(rows)
                batch = batch_of(rows, kinds)
                outcome.ambiguous = local.ambiguous
                mark = None
                if number == len(pieces) - 1:
                    mark = Progress(block.end, block.end_line, progress.shift, progress.newest, False, local.state())
                yield _Sent(rows, pool.submit(self._accept, batch) if len(batch) else None, mark)

    def _accept(self, batch: Batch) -> Receipt:
        try:
            return accept(batch, self._sender, note=False)  # the file is still there
        except RequestRejected as refused:  # not one good point among them
            return Receipt(0, list(refused.rejections), batch.groups, batch.metrics[0])

    def _settle(self, sent: _Sent, outcome: Outcome, ledger: Ledger, source: Source) -> None:
        tally = outcome.tally
        tally.reject(sent.rows.bad)
        if sent.receipt is not None:
            receipt = sent.receipt.result()
            tally.stored += receipt.accepted
            tally.reject((sent.rows.lines[one.index], one.field, one.detail) for one in receipt.rejected)
        outcome.seconds = time.monotonic() - self._began
        if sent.mark is not None:
            sent.mark.tally = tally.as_json()
            outcome.progress = sent.mark
            ledger.write(sent.mark)
        self._told(outcome, source.part_read)
