"""Rows of exports against plain Python: the csv module, json and datetime."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metrics.export.rfc3339 import format_times
from metrics.export.rows import ExportSeries, encode_csv_rows, encode_json_rows
from metrics.storage.format.contexts import write_context
from rest.csv_text import STANDARD, CsvDialect, text_cell, value_text_cell

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.lists(st.datetimes(EPOCH.replace(tzinfo=None), datetime(2199, 12, 31, 23, 59)), min_size=1, max_size=9)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAMES = TEXTS.filter(bool)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TAGS = st.dictionaries(TEXTS, st.one_of(TEXTS, NUMBERS, st.booleans(), st.none()), max_size=3)
VALUES = st.one_of(NUMBERS, st.booleans(), TEXTS, TAGS, st.lists(TEXTS, max_size=3), st.none())


@pytest.mark.slow
@given(MOMENTS)
@example([datetime(1970, 1, 1)])
@example([datetime(2024, 2, 29, 23, 59, 59, 999_999), datetime(2024, 3, 1), datetime(2038, 1, 19, 3, 14, 8, 1)])
def test_formatted_times_equal_json_responses(moments):
    times = [moment.replace(tzinfo=UTC) for moment in moments]
    micros = np.array([(time - EPOCH) // timedelta(microseconds=1) for time in times], np.int64)
    assert b'["%b"]' % b'","'.join(format_times(micros)) == msgspec.json.encode(times)


@pytest.mark.slow
@given(NAMES, NAMES, st.lists(VALUES, min_size=1, max_size=9), TEXTS, TAGS)
def test_rows_equal_csv_module_and_json(device, metric, values, unit, tags):
    entries = [write_context(unit or None, tags, None), b""]
    contexts = np.arange(len(values), dtype=np.int32) % 2
    series = ExportSeries(device, metric, np.arange(len(values)), values, "own", entries, contexts)
    expected, lines = [], []
    for index, value in enumerate(values):
        context = (unit or "own", tags) if index % 2 == 0 else ("own", {})
        moment = msgspec.to_builtins(EPOCH + timedelta(microseconds=index))
        expected.append(
            [
                moment,
                mark_special(device),
                mark_special(metric),
                format_cell(value),
                mark_special(context[0]),
                to_json(context[1]),
            ]
        )
        lines.append([moment, device, metric, value, *context])
    for dialect in (STANDARD, CsvDialect(";", ","), CsvDialect("\t")):
        text = encode_csv_rows(series, dialect).decode()
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, strict=True))
        if dialect.decimal == ",":
            decimal_values = [format_cell(value, ",") for value in values]
            assert rows == [[*row[:3], value, *row[4:]] for row, value in zip(expected, decimal_values, strict=True)]
        else:
            assert rows == expected
    assert [list(json.loads(row).values()) for row in encode_json_rows(series).split(b"\n")[:-1]] == lines


@pytest.mark.slow
@given(st.lists(NUMBERS, min_size=1, max_size=50))
def test_numbers_survive_a_csv_round_trip(numbers):
    rows = encode_csv_rows(ExportSeries("d", "m", np.arange(len(numbers)), np.array(numbers)))
    cells = [row[3] for row in csv.reader(io.StringIO(rows.decode()))]
    assert [float(text).hex() for text in cells] == [number.hex() for number in numbers]
    assert "".join(cells).count("'") == 0


def test_text_that_a_spreadsheet_would_change_is_marked():
    for text in ("=1", "+1", "-1", "@A1", "\t=1", "\r=1", "-", "=", " =1", "'=1", "''-1", "a\t", "\u00a0a", "＝1"):
        assert text_cell(text).decode().strip('"') == f"'{text}"
    for text in ("1", "a=1", "", "'", "'quoted'", "NULL", "{}"):
        assert text_cell(text).decode() == text


def test_text_that_looks_like_another_value_is_marked():
    for text in (
        "",
        "'",
        "1",
        "0.5",
        ".5",
        "5.",
        "1e5",
        "'5",
        "'true",
        "TRUE",
        "false",
        "Null",
        "NaN",
        "n/a",
        "{}",
        "[",
        " ",
    ):
        assert value_text_cell(text).decode() == f"'{text}"
    for text in ("ok", "yes", "E17", "5 V", "1.2.3", "2026-01-31", "NULLs", "'quoted'", "trueish"):
        assert value_text_cell(text).decode() == text


WORDS = ("true", "false", "nan", "null", "none", "n/a", "na", "inf", "infinity", "")


def format_cell(value, decimal="."):
    if value is None:
        return ""
    if isinstance(value, str):
        core = value.lstrip("'")
        number = re.fullmatch(r"(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?", core)
        is_other = bool(number) or core.lower() in WORDS or core[:1] in ("{", "[", '"')
        return f"'{value}" if is_other else mark_special(value)
    return to_json(value).replace(".", decimal) if isinstance(value, float) else to_json(value)


def to_json(value):
    return msgspec.json.encode(value).decode()


def mark_special(text):
    core = text.lstrip("'")
    is_special = core[:1] in tuple("=+-@＝＋－＠") or core != core.lstrip() or text != text.rstrip()
    return f"'{text}" if is_special else text
