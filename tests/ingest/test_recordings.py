"""Parsing of recordings: times, clock changes, values and rows. Needs no database."""

import contextlib
import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.recordings import csv_source
from ingest.recordings.cell_values import infer_kind, parse_value_column
from ingest.recordings.csv_source import CsvSource
from ingest.recordings.errors import UnreadableRecording
from ingest.recordings.header import ValueColumn, find_columns
from ingest.recordings.local_time import LocalTime, find_zone
from ingest.recordings.timestamps import parse_time_column
from metrics.storage.format.codec import Kind

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3_600_000_000


def to_micros(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


# --- times ------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
            st.sampled_from(["", "Z", "+05:30", "-11:00"]),
            st.sampled_from(["seconds", "milliseconds", "microseconds"]),
            st.sampled_from([" ", "T"]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_times_of_all_formats_match_python(given_times: list[tuple[datetime, str, str, str]]) -> None:
    texts = [moment.isoformat(separator, precision) + zone for moment, zone, precision, separator in given_times]
    parsed = parse_time_column(texts)
    assert not parsed.errors
    assert parsed.times.tolist() == [to_micros(text) for text in texts]
    assert parsed.local.tolist() == [not zone for _, zone, _, _ in given_times]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1396310400", "2014-04-01 00:00:00"),
        ("1396310400.25", "2014-04-01 00:00:00.250"),
        ("1396310400250", "2014-04-01 00:00:00.250"),
        ("1396310400250001", "2014-04-01 00:00:00.250001"),
        ("1396310400250001000", "2014-04-01 00:00:00.250001"),
        ("1.3963104e9", "2014-04-01 00:00:00"),
        ("20140401", "2014-04-01 00:00:00"),
        ("2014-04-01", "2014-04-01 00:00:00"),
        ("2014-04-01 00:05", "2014-04-01 00:05:00"),
        (" 2014-04-01 00:05:00 ", "2014-04-01 00:05:00"),
        ("20140401T000500Z", "2014-04-01 00:05:00"),
    ],
)
def test_epoch_numbers_and_short_forms_are_parsed(text: str, expected: str) -> None:
    assert parse_time_column([text]).times.tolist() == [to_micros(expected)]
    assert parse_time_column([text, "2014-04-01 00:00:00"]).times.tolist() == [
        to_micros(expected),
        to_micros("2014-04-01 00:00:00"),
    ]


def test_invalid_times_become_errors_of_their_rows_only() -> None:
    invalid = ["", "yesterday", "2014-02-30 00:00:00", "2014-04-01 24:61:00", "2014-13-01T00:00:00Z", "nan", "1e400",
               "12", "-5", "2014-04-01 00:00:0x", "２０１４-04-01 00:00:00", "\x00",
               "2014-04-01 00:00:00+99:00"]  # fmt: skip
    texts = [cell for text in invalid for cell in (text, "2014-04-01 00:00:00")]
    parsed = parse_time_column(texts)
    assert sorted(parsed.errors) == list(range(0, len(texts), 2))
    assert set(parsed.times[1::2].tolist()) == {to_micros("2014-04-01 00:00:00")}
    assert parsed.errors[0] == "the cell is empty"
    assert parsed.errors[2].startswith("'yesterday' is not a time: a time like 2026-01-31 12:00:00")


# --- nights -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
def test_local_times_of_a_whole_year_are_converted_to_utc(zone: str) -> None:
    utc_times = np.arange(to_micros("2025-01-01 00:00:00"), to_micros("2026-01-01 00:00:00"), HOUR // 4)
    local_times = [
        datetime.fromtimestamp(at / 1e6, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S") for at in utc_times.tolist()
    ]
    local = LocalTime(find_zone(zone))
    moments = parse_time_column(local_times)
    assert local.to_utc(moments).tolist() == utc_times.tolist()
    assert not moments.errors
    expected = {"Europe/Berlin": 8, "America/New_York": 8, "Australia/Lord_Howe": 4}
    assert local.ambiguous == expected.get(zone, 0)


def test_load_interrupted_in_a_repeated_hour_resumes_in_the_right_one() -> None:
    utc_times = list(range(to_micros("2025-10-25 23:00:00"), to_micros("2025-10-26 03:00:00"), HOUR // 12))
    local_times = [datetime.fromtimestamp(at / 1e6, BERLIN).strftime("%Y-%m-%d %H:%M:%S") for at in utc_times]
    for stop in range(len(local_times)):
        first, second = LocalTime(BERLIN), LocalTime(BERLIN)
        before = first.to_utc(parse_time_column(local_times[:stop])).tolist()
        second.restore(first.state())
        assert before + second.to_utc(parse_time_column(local_times[stop:])).tolist() == utc_times


def test_repeated_hour_is_tracked_per_series() -> None:
    utc_times = list(range(to_micros("2025-10-26 00:00:00"), to_micros("2025-10-26 02:00:00"), HOUR // 4))
    local_times = [datetime.fromtimestamp(at / 1e6, BERLIN).strftime("%Y-%m-%d %H:%M:%S") for at in utc_times]
    series = [("a", "m")] * len(local_times) + [("b", "m")] * len(local_times)
    converted = LocalTime(BERLIN).to_utc(parse_time_column(local_times + local_times), lambda: series)
    assert converted.tolist() == utc_times + utc_times


def test_time_in_a_skipped_hour_is_an_error() -> None:
    moments = parse_time_column(["2025-03-30 01:59:00", "2025-03-30 02:30:00", "2025-03-30 03:00:00"])
    utc_times = LocalTime(BERLIN).to_utc(moments)
    assert moments.errors == {1: "this time does not exist in Europe/Berlin: clocks were set forward"}
    assert utc_times[[0, 2]].tolist() == [to_micros("2025-03-30 00:59:00"), to_micros("2025-03-30 01:00:00")]


def test_times_with_an_offset_ignore_the_zone() -> None:
    moments = parse_time_column(["2025-07-01T12:00:00+02:00", "2025-07-01 12:00:00", "1751364000"])
    assert set(LocalTime(BERLIN).to_utc(moments).tolist()) == {to_micros("2025-07-01 10:00:00")}


def test_unknown_time_zone_is_rejected() -> None:
    for name in ("Berlin", "../etc/passwd", "", "Europe"):
        with pytest.raises(ValueError, match="is not a time zone"):
            find_zone(name)


# --- values -----------------------------------------------------------------------------------------


def test_invalid_numbers_are_reported() -> None:
    cells = ["1", " -2.5 ", "1e300", "", "nan", "inf", "1_000", "٣", "abc", "1e400", "9007199254740993", "0x10", "NULL"]
    values, errors = parse_value_column(cells, ["m"] * len(cells), {"m": Kind.NUMERIC})
    assert list(values[:3]) == [1.0, -2.5, 1e300]
    assert sorted(errors) == list(range(3, len(cells)))
    assert errors[3] == "the cell is empty"
    assert errors[8] == "'abc' is not a number"


def test_cells_are_parsed_by_the_data_type_of_their_metric() -> None:
    metrics = ["n", "b", "s", "j"]
    kinds = {"n": Kind.NUMERIC, "b": Kind.BOOLEAN, "s": Kind.STRING, "j": Kind.JSON}
    assert parse_value_column(["1", "true", "1", '{"a": [1]}'], metrics, kinds) == ([1.0, True, "1", {"a": [1]}], {})
    values, errors = parse_value_column(["x", "maybe", "", "{"], metrics, kinds)
    assert len(values) == len(errors) == 4


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", "n/a", ""], Kind.NUMERIC),
        (["1", "x"], Kind.NUMERIC),
        (["1", "x", "y"], Kind.STRING),
        (["true", "False", ""], Kind.BOOLEAN),
        (["0", "1"], Kind.NUMERIC),
        (["on fire", "ok"], Kind.STRING),
        ([], Kind.NUMERIC),
    ],
)
def test_data_type_of_a_column_is_that_of_most_cells(cells: list[str], kind: Kind) -> None:
    assert infer_kind(cells) is kind


# --- rows -------------------------------------------------------------------------------------------


def read_rows(path: Path, width: int = 2) -> tuple[list[tuple[str, ...]], list[int], list[tuple[int, str]]]:
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    malformed: list[tuple[int, str]] = []
    with contextlib.closing(CsvSource(str(path))) as source:
        for block in source.blocks(width, 1):
            rows += zip(*block.columns, strict=True)
            lines += block.lines
            malformed += block.malformed
        assert source.position == len(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    return rows, lines, malformed


CELL = st.text(st.sampled_from('ab1 ,"\n\u00e4;'), max_size=6)


@pytest.mark.slow
@given(
    rows=st.lists(st.tuples(CELL, CELL), max_size=30), block=st.integers(1, 64), ending=st.sampled_from(["\n", "\r\n"])
)
def test_rows_match_the_csv_module_for_any_block_size(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], block: int, ending: str
) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator=ending).writerows(rows)
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_bytes(out.getvalue().encode())
    block_size, csv_source.BLOCK_SIZE = csv_source.BLOCK_SIZE, block
    try:
        read, _, malformed = read_rows(path)
    finally:
        csv_source.BLOCK_SIZE = block_size
    assert (read, malformed) == (rows, [])


@pytest.mark.parametrize("block", [7, 1 << 20])
@pytest.mark.parametrize("packed", [False, True])
def test_line_numbers_are_right_after_empty_quoted_and_malformed_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, packed: bool
) -> None:
    monkeypatch.setattr(csv_source, "BLOCK_SIZE", block)
    text = b'a,1\n\nb,2\n"c\nc",3\nd\ne,5,6\nf,7'
    path = tmp_path / ("rows.csv.gz" if packed else "rows.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    rows, lines, malformed = read_rows(path)
    assert rows == [("a", "1"), ("b", "2"), ("c\nc", "3"), ("f", "7")]
    assert lines == [1, 3, 4, 8]
    assert malformed == [(6, "1 cells: the header has 2"), (7, "3 cells: the header has 2")]


@pytest.mark.slow
def test_unclosed_quote_loses_rows_but_not_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'a,1\nb,"2\n' + b"c,3\n" * 1_000_000)
    rows, _, malformed = read_rows(path)
    assert rows[0] == ("a", "1")
    assert malformed
    assert len(rows) > 500_000


@pytest.mark.slow
def test_truncated_gzip_yields_its_rows_and_then_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    values = np.random.default_rng(1).random(400_000)
    path.write_bytes(gzip.compress("".join(f"a,{value}\n" for value in values).encode())[:-2000])
    source = CsvSource(str(path))
    row_count = 0
    with pytest.raises(UnreadableRecording, match=r"rows\.csv\.gz cannot be read any further"):
        for block in source.blocks(2, 1):
            row_count += len(block.lines)
    source.close()
    assert row_count > 300_000


def test_line_over_the_size_limit_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"x" * (20 << 20))
    with pytest.raises(UnreadableRecording, match="longer than 8 MiB"):
        read_rows(path)


def test_columns_are_found_by_name_in_any_order() -> None:
    roles = find_columns(["Value", "metric_name", "unit", "timestamp", "device_id", "tags"])
    assert (roles.metric, roles.unit, roles.time, roles.device, roles.tags) == (1, 2, 3, 4, 5)
    assert roles.values == (ValueColumn(0),)
    assert find_columns(["timestamp", "temperature"]).values == (ValueColumn(1),)
    assert find_columns(["2014-04-01 00:00:00", "1"]).headless
    for header in (["a", "b"], ["timestamp"], [], ["timestamp", "a", "b"]):
        with pytest.raises(UnreadableRecording, match="the header names no column of"):
            find_columns(header)
