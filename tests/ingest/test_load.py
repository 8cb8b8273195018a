"""`manage.py load` into a real database."""

import contextlib
import gzip
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import numpy as np
import psutil
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from ingest.recordings import metric_definitions
from ingest.recordings.cell_values import infer_kind
from ingest.recordings.load import LoadOptions, LoadResult, RecordingLoad
from metrics.models import Device, MetricDefinition
from metrics.query.latest import list_device_metrics
from metrics.query.raw_points import RawPoints
from metrics.storage.connection import connection_parameters
from metrics.storage.format.codec import Kind
from metrics.storage.format.contexts import read_context
from tests.metrics.stored_points import read_stored_values

ROOT = Path(__file__).resolve().parents[2]
RECORDING = ROOT / "tests" / "data" / "nab" / "rogue_agent_key_hold.csv"
ROWS = 1882
LONG_AGO, FAR_AHEAD = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
LINE = re.compile(r"(\S+): ([\d,]+) points stored, ([\d,]+) rows rejected \([\d,]+ rows/s\)")


@pytest.fixture(autouse=True)
def data_folder(site: None, settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "var"


def load(*args: Any, **options: Any) -> str:
    output = io.StringIO()
    call_command("load", *map(str, args), stdout=output, **options)
    return output.getvalue()


def points(device: str, metric: str) -> RawPoints:
    return read_stored_values(device, metric, LONG_AGO, FAR_AHEAD)


def write_file(folder: Path, text: str, name: str = "made.csv") -> Path:
    path = folder / name
    path.write_text(text, newline="")
    return path


def recent_times(step: timedelta = timedelta(minutes=5), count: int = 10) -> list[datetime]:
    start = datetime.now(UTC).replace(microsecond=0) - step * (count + 1)
    return [start + step * number for number in range(count)]


def format_local(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


# --- real recordings --------------------------------------------------------------------------------


def test_shifted_recording_is_stored_completely_and_ends_now() -> None:
    before = time.time()
    output = load(RECORDING, "--device", "pump", "--now")
    stored = points("pump", "rogue_agent_key_hold")
    assert LINE.match(output).groups() == ("rogue_agent_key_hold.csv", "1,882", "0")  # type: ignore[union-attr]
    assert len(stored) == ROWS
    assert int(before) <= stored.times[-1] / 1e6 <= time.time()
    raw = [line.strip().split(",") for line in RECORDING.read_text().splitlines()[1:]]
    assert stored.values.tolist() == [float(value) for _, value in raw]
    original = [datetime.fromisoformat(time_text) for time_text, _ in raw]
    assert np.diff(stored.times).tolist() == [
        (later - earlier) // timedelta(microseconds=1) for earlier, later in pairwise(original)
    ]


def test_recording_older_than_the_retention_is_rejected_with_a_hint() -> None:
    out = io.StringIO()
    with pytest.raises(CommandError, match="no row could be stored"):
        call_command("load", str(RECORDING), "--device", "pump", stdout=out)
    assert "rejected: 1,882 × timestamp: older than the retention of rogue_agent_key_hold" in out.getvalue()
    assert "at most 3650 days are accepted" in out.getvalue()
    assert "(lines 2, 3, 4, …)" in out.getvalue()
    assert "--now shifts a recording" in out.getvalue()


@pytest.mark.slow
def test_loading_a_shifted_recording_twice_changes_nothing() -> None:
    load(RECORDING, "--device", "pump", "--now")
    first = points("pump", "rogue_agent_key_hold")
    output = load(RECORDING, "--device", "pump", "--now")
    second = points("pump", "rogue_agent_key_hold")
    assert "a second copy would overlap the first" in output
    assert second.times.tolist() == first.times.tolist()
    assert second.values.tolist() == first.values.tolist()


def test_metric_is_defined_with_enough_retention_which_is_never_reduced(tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=400)
    path = write_file(
        tmp_path, f"timestamp,value\n{format_local(long_ago)},1\n{format_local(datetime.now(UTC))},2\n", "old.csv"
    )
    MetricDefinition.objects.create(name="narrow", data_type="numeric", retention_days=30, unit="bar", max_value=5)
    MetricDefinition.objects.create(name="wide", data_type="numeric", retention_days=3000)
    assert "metric old is defined: numeric, retention 441 days" in load(path, "--device", "d")
    assert "metric narrow: retention is now 441 days instead of 30" in load(path, "--device", "d", "--metric", "narrow")
    assert "metric" not in load(path, "--device", "d", "--metric", "wide")
    narrow, wide = MetricDefinition.objects.get(name="narrow"), MetricDefinition.objects.get(name="wide")
    assert (narrow.retention_days, narrow.unit, narrow.max_value) == (441, "bar", 5)
    assert wide.retention_days == 3000
    assert [len(points("d", name)) for name in ("old", "narrow", "wide")] == [2, 2, 2]


# --- rows that cannot be kept -----------------------------------------------------------------------


def test_two_loads_that_define_the_same_metric_at_once_store_all_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_found_no_definition = threading.Barrier(2, timeout=30)

    def wait_and_infer(cells: list[str]) -> Kind:
        both_found_no_definition.wait()
        return infer_kind(cells)

    def load_one(days: int) -> None:
        path = write_file(tmp_path, f"timestamp,value\n{datetime.now(UTC) - timedelta(days=days)},1.5\n", f"{days}.csv")
        try:
            outputs.append(load(path, device=f"device-{days}", metric="shared"))
        finally:
            connection.close()

    monkeypatch.setattr(metric_definitions, "infer_kind", wait_and_infer)
    outputs: list[str] = []
    threads = [threading.Thread(target=load_one, args=(days,)) for days in (200, 400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ["1 points stored" in output for output in outputs] == [True, True]
    assert [len(points(f"device-{days}", "shared")) for days in (200, 400)] == [1, 1]
    assert MetricDefinition.objects.get(name="shared").retention_days >= 400


def test_invalid_rows_are_counted_by_reason_and_valid_rows_are_stored(tmp_path: Path) -> None:
    times = [format_local(moment) for moment in recent_times()]
    lines = [
        "timestamp,value", f"{times[0]},1", f"{times[1]},", f"{times[2]},nan", f"{times[3]},abc", f"{times[4]},xyz",
        "tomorrow,1", ",1", f"{times[5]}", f"{times[6]},1,2", "2099-01-01 00:00:00,1", "1999-01-01 00:00:00,1",
        f"{times[7]},1e400", "",
        f'"{times[8]}","8.5"', f"{times[9]},9",
    ]  # fmt: skip
    output = load(write_file(tmp_path, "\n".join(lines)), "--device", "d")
    assert points("d", "made").values.tolist() == [1, 8.5, 9]
    for reason in (
        "value: the cell is empty (line 3)",
        "'nan' is not a measurement (line 4)",
        "2 × value: 'abc' is not a number (lines 5, 6)",
        "'tomorrow' is not a time",
        "timestamp: the cell is empty (line 8)",
        "1 cells: the header has 2 (lines 9, 10)",
        "must be at most 5 minutes in the future (line 11)",
        "older than the retention of made: at most 3650 days are accepted (line 12)",
        "'1e400' is beyond 1.8e308 (line 13)",
    ):
        assert reason in output
    assert LINE.match(output).groups() == ("made.csv", "3", "11")  # type: ignore[union-attr]


def test_bounds_of_a_definition_apply_to_recordings(tmp_path: Path) -> None:
    MetricDefinition.objects.create(name="made", data_type="numeric", max_value=5)
    times = [format_local(moment) for moment in recent_times()]
    output = load(write_file(tmp_path, f"timestamp,value\n{times[0]},4\n{times[1]},6\n"), "--device", "d")
    assert "value: 6 is above the maximum 5 of made (line 3)" in output
    assert points("d", "made").values.tolist() == [4]


def test_text_and_boolean_columns_define_their_data_type(tmp_path: Path) -> None:
    times = [format_local(moment) for moment in recent_times()]
    texts = write_file(
        tmp_path, f'timestamp,value\n{times[0]},idle\n{times[1]},"on, fire"\n{times[2]},\n{times[3]},5\n', "state.csv"
    )
    booleans = write_file(tmp_path, f"timestamp,value\n{times[0]},true\n{times[1]},False\n", "door.csv")
    assert "metric state is defined: string" in load(texts, "--device", "d")
    assert "metric door is defined: boolean" in load(booleans, "--device", "d")
    assert list(points("d", "state").values) == ["idle", "on, fire", "5"]
    assert points("d", "door").values.tolist() == [1, 0]


# --- shapes -----------------------------------------------------------------------------------------


def test_file_with_many_devices_metrics_units_and_tags_is_stored(tmp_path: Path) -> None:
    rows = ["value,unit,timestamp,device_id,tags,metric_name"]
    times = recent_times()
    for number, moment in enumerate(times):
        for device in ("b", "a"):
            rows.append(f'{number},°C,{moment.isoformat()},{device},"{{""floor"": ""{device}""}}",temperature')
            rows.append(f"{100 + number},,{moment.timestamp():.0f},{device},,humidity")
    rows.append(f"1,{'x' * 60},{times[0].isoformat()},a,,temperature")
    rows.append(f"1,,{times[0].isoformat()},,,temperature")
    output = load(write_file(tmp_path, "\n".join(rows)), "--batch", 7)
    assert LINE.match(output).groups() == ("made.csv", "40", "2")  # type: ignore[union-attr]
    assert "unit: a text of at most 50 characters is accepted (line 42)" in output
    assert "device_id: 0 characters" in output
    for device in ("a", "b"):
        assert list_device_metrics(device) == ["humidity", "temperature"]
        stored = points(device, "temperature")
        assert stored.values.tolist() == list(range(10))
        assert read_context(stored.dictionary[stored.contexts[3]]) == ("°C", {"floor": device}, {})
        assert stored.times.tolist() == [int(moment.timestamp() * 1e6) for moment in times]
    assert MetricDefinition.objects.get(name="temperature").unit == "°C"


def test_device_and_metric_options_override_the_columns(tmp_path: Path) -> None:
    path = write_file(tmp_path, f"timestamp,device_id,metric_name,value\n{format_local(recent_times()[0])},a,m,1\n")
    load(path, "--device", "other", "--metric", "thing")
    assert points("other", "thing").values.tolist() == [1]
    assert not Device.objects.filter(device_id="a").exists()


@pytest.mark.slow
def test_gzip_file_and_standard_input_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gzip_file = tmp_path / "pressure.csv.gz"
    gzip_file.write_bytes(gzip.compress(RECORDING.read_bytes()))
    load(gzip_file, "--device", "d", "--now")
    assert len(points("d", "pressure")) == ROWS
    for number in range(2):
        with RECORDING.open() as file:
            monkeypatch.setattr(sys, "stdin", file)
            load("-", "--device", "d", "--metric", f"piped{number}", "--now")
        assert len(points("d", f"piped{number}")) == ROWS


def test_named_pipe_is_accepted(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for number, options in enumerate([(), ("--now",)]):
        at = format_local(recent_times()[number])
        writer = threading.Thread(target=pipe.write_text, args=(f"timestamp,value\n{at},{number}\n",))
        writer.start()
        load(pipe, "--device", "d", "--metric", f"piped{number}", *options)
        writer.join()
        assert points("d", f"piped{number}").values.tolist() == [number]


def test_last_row_of_the_same_time_is_stored(tmp_path: Path) -> None:
    at = format_local(recent_times()[0])
    load(write_file(tmp_path, f"timestamp,value\n{at},1\n{at},2\n{at},3\n"), "--device", "d", "--batch", 2)
    assert points("d", "made").values.tolist() == [3]


def test_local_times_are_converted_when_clocks_are_set_back(tmp_path: Path) -> None:
    year = datetime.now(UTC).year - 1
    night = max(day for day in range(25, 32) if datetime(year, 10, day, tzinfo=UTC).weekday() == 6)
    start = datetime(year, 10, night, 0, 0, tzinfo=UTC) - timedelta(hours=2)
    utc_times = [start + timedelta(minutes=5) * step for step in range(72)]
    rows = [
        f"{format_local(moment.astimezone(ZoneInfo('Europe/Berlin')))},{step}" for step, moment in enumerate(utc_times)
    ]
    rows.append(f"{year}-03-{31 - (datetime(year, 3, 31, tzinfo=UTC).weekday() + 1) % 7} 02:30:00,0")
    output = load(write_file(tmp_path, "timestamp,value\n" + "\n".join(rows)), "--device", "d", "--tz", "Europe/Berlin")
    stored = points("d", "made")
    assert stored.times.tolist() == [int(moment.timestamp() * 1e6) for moment in utc_times]
    assert stored.values.tolist() == list(range(72))
    assert "24 times in the hour that occurs twice in Europe/Berlin" in output
    assert "this time does not exist in Europe/Berlin: clocks were set forward (line 74)" in output


# --- stopped and started ----------------------------------------------------------------------------


def big_file(folder: Path, count: int, seed: int = 1) -> Path:
    path = folder / "big.csv"
    start = np.datetime64(datetime.now(UTC).replace(tzinfo=None, microsecond=0), "s") - count * 2
    times = (start + 2 * np.arange(count)).astype(str)
    values = np.round(np.random.default_rng(seed).normal(50, 10, count), 2)
    with path.open("w") as file:
        file.write("timestamp,value\n")
        file.writelines(f"{at},{value}\n" for at, value in zip(times.tolist(), values.tolist(), strict=True))
    return path


@pytest.mark.slow
def test_interrupted_load_resumes(tmp_path: Path) -> None:
    path = big_file(tmp_path, 100_000)
    options = LoadOptions(str(path), "d", "m", ZoneInfo("UTC"), until_now=True, batch=10_000)
    row_counts: list[int] = []

    def interrupt(outcome: LoadResult, _: float | None) -> None:
        row_counts.append(outcome.counts.rows)
        if outcome.progress.end and outcome.counts.rows > 40_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RecordingLoad(options, tmp_path / "loads", interrupt).run()
    outcome = RecordingLoad(options, tmp_path / "loads").run()
    assert 0 < outcome.resumed_rows <= row_counts[-1] < 100_000
    assert outcome.counts.stored == 100_000
    stored = points("d", "m")
    assert len(stored) == 100_000
    assert set(np.diff(stored.times).tolist()) == {2_000_000}  # both runs shifted the times equally


def environment(folder: Path) -> dict[str, str]:
    parameters = {
        name: str(value)
        for name, value in connection_parameters().items()
        if name in {"dbname", "user", "password", "host", "port"}
    }
    return os.environ | {"DATABASE_URL": "postgresql:///?" + urlencode(parameters), "TELEMETRY_DATA_DIR": str(folder)}


def start_load(folder: Path, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "manage.py", "load", *args],
        cwd=ROOT, env=environment(folder), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def memory_while_running(process: "subprocess.Popen[str]") -> Iterator[int]:
    """Yield the resident bytes of a process until it ends, for at most a minute."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield psutil.Process(process.pid).memory_info().rss
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)


@pytest.mark.slow
def test_killed_load_of_a_million_rows_resumes_in_little_memory(tmp_path: Path) -> None:
    path = big_file(tmp_path, 1_000_000)
    progress_folder = tmp_path / "var" / "loads"
    process = start_load(tmp_path / "var", str(path), "--device", "d")
    for _ in memory_while_running(process):
        if any('"stored":2' in file.read_text() for file in progress_folder.glob("*.json")):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    process = start_load(tmp_path / "var", str(path), "--device", "d")
    resident = list(memory_while_running(process))
    output, _ = process.communicate()
    assert process.returncode == 0
    assert "resumed after 2" in output
    assert "1,000,000 points stored, 0 rows rejected" in output
    assert len(points("d", "big")) == 1_000_000
    assert max(resident) < 200 * 2**20


@pytest.mark.slow
def test_missing_database_prints_one_line_with_a_hint(tmp_path: Path) -> None:
    variables = environment(tmp_path) | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    completed = subprocess.run(
        [sys.executable, "manage.py", "load", str(RECORDING), "--device", "d"],
        cwd=ROOT, env=variables, text=True, capture_output=True, timeout=30,
    )  # fmt: skip
    assert completed.returncode == 2
    assert completed.stderr.startswith("CommandError: start the site with `make run` first, or set DATABASE_URL")
    assert completed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.csv", "--device", "d"], "nowhere.csv cannot be read: No such file or directory"),
        ([RECORDING], "--device is needed: the file has no column device_id"),
        ([RECORDING, "--device", "d", "--tz", "Mars/Olympus"], "--tz: 'Mars/Olympus' is not a time zone"),
        ([RECORDING, "--device", "d", "--batch", "0"], "a number from 1 to 50000 is accepted"),
        ([RECORDING, "--device", ""], "--device: 0 characters"),
        ([RECORDING, "--device", "d", "--metric", "a\nb"], "--metric: control characters are not accepted"),
    ],
)
def test_invalid_argument_prints_one_line(args: list[Any], message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        load(*args)


# --- files of other products -------------------------------------------------------------------------


def test_wide_file_defines_a_metric_for_each_column(tmp_path: Path) -> None:
    first, second = recent_times(count=2)
    path = tmp_path / "logger.csv"
    path.write_bytes(
        f"Station: hall\r\nZeit;Temp [°C];Feuchte (%)\r\n{first:%d.%m.%Y %H:%M:%S};21,5;40\r\n"
        f"{second:%d.%m.%Y %H:%M:%S};;41,25\r\n".encode("cp1252")
    )
    output = load(path, "--device", "hall")
    assert "logger.csv: 3 points stored, 0 rows rejected" in output
    assert "read as cp1252, delimiter semicolon, decimal comma, dates day first" in output
    assert "1 cells without a value" in output
    assert (points("hall", "Temp").values.tolist(), points("hall", "Feuchte").values.tolist()) == ([21.5], [40, 41.25])
    units = dict(MetricDefinition.objects.values_list("name", "unit"))
    assert (units["Temp"], units["Feuchte"]) == ("°C", "%")


def test_file_with_cr_line_ends_is_stored(tmp_path: Path) -> None:
    rows = "".join(f"{moment:%Y-%m-%d %H:%M:%S},{number}\r" for number, moment in enumerate(recent_times()))
    load(write_file(tmp_path, "timestamp,value\r" + rows), "--device", "d")
    assert points("d", "made").values.tolist() == [*range(10)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("timestamp,value\n", "the file has no rows"),
        ("timestamp,value\n2026-13-01 00:00:00,1\n", "no row could be stored"),
        ("", "it holds nothing"),
        ("timestamp,value\n{now},high\n{now},n/a\n", None),
    ],
)
def test_load_without_a_stored_point_fails_with_the_reason(tmp_path: Path, text: str, reason: str | None) -> None:
    path = write_file(tmp_path, text.replace("{now}", format_local(datetime.now(UTC))))
    if reason is None:
        load(path, "--device", "d")
        assert MetricDefinition.objects.get(name="made").data_type == "string"
        return
    with pytest.raises(CommandError, match=reason):
        load(path, "--device", "d")
    assert not MetricDefinition.objects.exists()


def test_numbers_in_another_form_never_define_a_string_metric(tmp_path: Path) -> None:
    rows = "".join(
        f"{moment:%Y-%m-%d %H:%M:%S},{number} {unit}\n"
        for number, (moment, unit) in enumerate(zip(recent_times(), ["kW", "W"] * 5, strict=True))
    )
    with pytest.raises(CommandError, match="numbers with commas or units that differ"):
        load(write_file(tmp_path, "timestamp,value\n" + rows), "--device", "d")
    assert not MetricDefinition.objects.exists()


def test_preview_stores_and_defines_nothing(tmp_path: Path) -> None:
    moment = recent_times(count=1)[0]
    path = write_file(tmp_path, f"Time,hall (°C),note\n{moment:%Y-%m-%d %H:%M:%S},21.5,warm\n{moment},x,cold\n")
    output = load(path, "--device", "hall", "--preview")
    assert "'hall (°C)': metric hall in °C (numeric)" in output
    assert "'note': not loaded" in output
    assert f"  {moment:%Y-%m-%d %H:%M:%S} UTC  hall  hall  21.5 °C" in output
    assert not MetricDefinition.objects.exists()
    assert not Device.objects.exists()


@pytest.mark.slow
def test_interrupted_load_of_a_converted_file_resumes(tmp_path: Path, settings: Any) -> None:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    rows = "".join(f"{start + timedelta(seconds=number):%d.%m.%Y %H:%M:%S};{number},5\n" for number in range(60_000))
    path = tmp_path / "long.csv"
    path.write_bytes(("Zeit;Temp °C\n" + rows).encode("utf-16"))
    options = LoadOptions(str(path), "d", "temp", ZoneInfo("UTC"), batch=5_000)
    stops = iter([False] * 3 + [True])

    def stop(result: LoadResult, part: float | None) -> None:
        if next(stops, False):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RecordingLoad(options, settings.DATA_DIR / "loads", stop).run()
    result = RecordingLoad(options, settings.DATA_DIR / "loads").run()
    assert result.counts.rejected == 0
    assert points("d", "temp").values.tolist() == [number + 0.5 for number in range(60_000)]
