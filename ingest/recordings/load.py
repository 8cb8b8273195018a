"""Loads a recording: reads blocks, defines metrics, sends batches to the pipeline and keeps the progress."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timezone, tzinfo
from pathlib import Path

from ingest.pipeline import Receipt, accept
from ingest.recordings.csv_source import CsvSource, fingerprint
from ingest.recordings.errors import UnreadableRecording
from ingest.recordings.file_format import DETECT_ALL, FileFormat, FormatOptions
from ingest.recordings.header import normalize
from ingest.recordings.load_counts import LoadCounts
from ingest.recordings.local_time import LocalTime
from ingest.recordings.metric_definitions import RecordingDefinitions
from ingest.recordings.progress import LoadProgress, ProgressFile
from ingest.recordings.row_reader import RecordingRows, RowReader, batch_from_rows, split_block
from ingest.wire.batch import Batch, RequestRejected
from rest.caller import Caller

SECOND = 1_000_000
DEFAULT_BATCH_SIZE = 20_000  # points of one commit


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The options of a load. `device` and `metric` override the columns of the file."""

    path: str
    device: str | None
    metric: str | None
    zone: tzinfo
    until_now: bool = False
    batch: int = DEFAULT_BATCH_SIZE
    database: str = ""  # progress in another database does not count
    format: FormatOptions = DETECT_ALL
    has_stated_zone: bool = True  # else the header of the file may state an offset

    @property
    def is_stream(self) -> bool:
        """Whether the input can be read only once: standard input or a named pipe."""
        path = Path(self.path)
        return self.path == "-" or path.is_fifo() or path.is_char_device()

    def progress_file(self, folder: Path) -> ProgressFile:
        if self.is_stream:
            return ProgressFile(folder)
        file_hash = fingerprint(Path(self.path))
        options = (self.device, self.metric, self.zone, self.until_now, self.format)
        return ProgressFile(folder, file_hash, *map(str, options), self.database)


@dataclass(slots=True)
class LoadResult:
    """The state of a load: counts, progress and changed definitions."""

    counts: LoadCounts
    progress: LoadProgress
    definitions: RecordingDefinitions
    ambiguous: int = 0
    resumed_rows: int = 0  # rows that earlier runs had loaded
    is_repeated: bool = False  # shifted to the same times as an earlier load
    seconds: float = 0.0
    format: FileFormat | None = None
    encoding: str = "utf-8"

    @property
    def rate(self) -> float:
        """Rows per second of this run."""
        return (self.counts.rows - self.resumed_rows) / max(self.seconds, 1e-9)


@dataclass(slots=True)
class _SubmittedPiece:
    """Rows that the pipeline is storing; `progress` is set on the last piece of a block."""

    rows: RecordingRows
    receipt: "Future[Receipt] | None"
    progress: LoadProgress | None = None


class RecordingLoad:
    """One load. `on_progress` is called after every piece with the result so far and the part of the file read."""

    def __init__(
        self,
        options: LoadOptions,
        folder: Path,
        on_progress: Callable[[LoadResult, float | None], None] = lambda *_: None,
    ) -> None:
        self._options, self._folder, self._on_progress = options, folder, on_progress
        self._sender = Caller.internal("load")
        self._started = time.monotonic()
        self._is_repeated = False

    def run(self) -> LoadResult:
        """Load the recording; the next run resumes after the last stored block.

        Raises UnreadableRecording and StorageUnavailable.
        """
        options = self._options
        with tempfile.TemporaryDirectory() as folder:
            path = self._copy_stream(Path(folder)) if options.is_stream and options.until_now else options.path
            source = CsvSource(path, options.format)
            try:
                return self._load(source, path)
            finally:
                source.close()

    def _copy_stream(self, folder: Path) -> str:
        """Copy a stream to a file, since its last time is needed before its first row can be shifted."""
        file = folder / "stream"
        with file.open("wb") as out:
            if self._options.path == "-":
                shutil.copyfileobj(sys.stdin.buffer, out)
            else:
                with Path(self._options.path).open("rb") as stream:
                    shutil.copyfileobj(stream, out)
        return str(file)

    def _load(self, source: CsvSource, path: str) -> LoadResult:
        progress_file = self._options.progress_file(self._folder)
        file_format, metric = read_format_of(source, self._options)
        progress = progress_file.read()
        if progress.finished or not progress.end_line:
            progress = LoadProgress(0, file_format.first_line, *self._shift(path, progress))
            progress_file.write(progress)  # before the first point, so that a later run uses the same shift
        counts = LoadCounts.from_json(progress.counts) if progress.counts else LoadCounts()
        result = LoadResult(counts, progress, RecordingDefinitions(file_format.is_export))
        result.resumed_rows, result.is_repeated = counts.rows, self._is_repeated
        result.format, result.encoding = file_format, source.encoding
        if progress.end:
            source.skip(progress.end)
        local = local_time_of(file_format, self._options)
        local.restore(progress.clock)
        reader = RowReader(file_format, self._options.device, metric, local, progress.shift)
        self._started = time.monotonic()
        with ThreadPoolExecutor(1, "load") as pool:
            previous: _SubmittedPiece | None = None
            for piece in self._submit_pieces(source, reader, local, result, pool):
                if previous is not None:
                    self._finish_piece(previous, result, progress_file, source)
                previous = piece
            if previous is not None:
                self._finish_piece(previous, result, progress_file, source)
        result.progress.finished = True
        progress_file.write(result.progress)
        return result

    def _shift(self, path: str, earlier: LoadProgress) -> tuple[int, int | None]:
        """Return (µs to add to all times, the newest time after that).

        The shift of an earlier load is used again if a second copy would overlap the first.
        """
        if not self._options.until_now:
            return 0, None
        newest, oldest = self._span(path)
        if newest is None or oldest is None:
            return 0, None
        now = time.time_ns() // 1000 // SECOND * SECOND
        shift = now - newest
        if earlier.newest is not None and oldest + shift <= earlier.newest:
            self._is_repeated = True
            return earlier.shift, earlier.newest
        return shift, now

    def _span(self, path: str) -> tuple[int | None, int | None]:
        """Return the newest and the oldest time of the file."""
        source = CsvSource(path, self._options.format)
        try:
            file_format, metric = read_format_of(source, self._options)
            reader = RowReader(file_format, self._options.device, metric, local_time_of(file_format, self._options))
            spans = [span for block in source.blocks(reader.width, 1) if (span := reader.span(block)) is not None]
        finally:
            source.close()
        return max((newest for _, newest in spans), default=None), min((oldest for oldest, _ in spans), default=None)

    def _submit_pieces(
        self, source: CsvSource, reader: RowReader, local: LocalTime, result: LoadResult, pool: ThreadPoolExecutor
    ) -> Iterator[_SubmittedPiece]:
        """Submit piece after piece to the pipeline, each while the previous piece is being stored."""
        start = result.progress
        for block in source.blocks(reader.width, start.end_line):
            pieces = split_block(block, self._options.batch)
            for number, piece in enumerate(pieces):
                rows = reader.read(piece)
                kinds = result.definitions.ensure(rows)
                batch = batch_from_rows(rows, kinds)
                result.ambiguous = local.ambiguous
                progress = None
                if number == len(pieces) - 1:
                    progress = LoadProgress(block.end, block.end_line, start.shift, start.newest, False, local.state())
                yield _SubmittedPiece(rows, pool.submit(self._accept, batch) if len(batch) else None, progress)

    def _accept(self, batch: Batch) -> Receipt:
        try:
            return accept(batch, self._sender, keep_rejected=False)  # the rows can be loaded again from the file
        except RequestRejected as error:  # not one point is valid
            return Receipt(0, list(error.rejections), batch.groups, batch.metrics[0])

    def _finish_piece(
        self, piece: _SubmittedPiece, result: LoadResult, progress_file: ProgressFile, source: CsvSource
    ) -> None:
        counts = result.counts
        counts.add_rejected(piece.rows.rejected)
        counts.missing += piece.rows.missing
        if piece.receipt is not None:
            receipt = piece.receipt.result()
            counts.stored += receipt.accepted
            lines = piece.rows.lines
            counts.add_rejected((lines[error.index], error.field, error.detail) for error in receipt.rejected)
        result.seconds = time.monotonic() - self._started
        if piece.progress is not None:
            piece.progress.counts = counts.as_json()
            result.progress = piece.progress
            progress_file.write(piece.progress)
        self._on_progress(result, source.part_read)


def read_format_of(source: CsvSource, options: LoadOptions) -> tuple[FileFormat, str | None]:
    """Return the format of the file, and the metric if it is not in a column or in the header.

    Raises UnreadableRecording if an option is missing or has no use.
    """
    file_format, metric = source.detect_format(options.format), options.metric
    roles = file_format.roles
    if options.device is None and roles.device is None:
        raise UnreadableRecording("--device is needed: the file has no column device_id")
    if roles.is_wide:
        if metric is not None:
            names = ", ".join(repr(column.metric) for column in roles.values)
            raise UnreadableRecording(f"--metric is not accepted: the columns {names} are metrics (see --columns)")
    elif metric is None and roles.device is not None and normalize(file_format.header[roles.device]) == "entity_id":
        metric = "state"  # history of Home Assistant
    elif metric is None and roles.metric is None:
        if options.is_stream:
            raise UnreadableRecording(
                "--metric is needed: a stream has no file name and this one has no column metric_name"
            )
        metric = Path(options.path).name.removesuffix(".gz").removesuffix(".csv")
    return file_format, metric


def local_time_of(file_format: FileFormat, options: LoadOptions) -> LocalTime:
    """Return the conversion of local times: the stated zone, else the offset in the header, else UTC."""
    if file_format.offset is not None and not options.has_stated_zone:
        return LocalTime(timezone(file_format.offset))
    return LocalTime(options.zone)
