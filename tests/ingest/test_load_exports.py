"""`manage.py load` of exported CSV files: what was exported is stored again."""

import io
import itertools
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import hypothesis.strategies as st
import numpy as np
import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, example, given, settings

from ingest.recordings.cell_values import infer_exported_kind
from ingest.recordings.csv_source import CsvSource
from ingest.recordings.file_format import DETECT_ALL
from ingest.recordings.local_time import LocalTime, find_zone
from ingest.recordings.row_reader import RowReader, batch_from_rows
from metrics.export.rows import COLUMNS, ExportSeries, encode_csv_rows
from metrics.models import MetricDefinition
from metrics.storage.format.contexts import read_context, write_context
from rest.csv_text import STANDARD, CsvDialect
from tests.conftest import ApiClient
from tests.metrics.sample_day import END_TEXT, START, START_TEXT, merge_all, point_at

DIALECTS = (STANDARD, CsvDialect(";", ",", True), CsvDialect(";"), CsvDialect("\t", ","))
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NEAR_VALUES = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            ["'", " ", "=", "-", "1", ",", ".", "e", "true", "NULL", "NaN", "{", "[", '"', "\t", "\r\n", "°C"]
        ),
        max_size=4,
    ),
)
TEXTS = st.one_of(TEXT, NEAR_VALUES)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(st.one_of(NUMBERS, TEXTS, st.booleans(), st.none()), lambda inner: st.lists(inner, max_size=3))
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=3)
NAMES = TEXTS.filter(
    lambda name: name.strip() == name and name.isprintable() and name not in ("", ".", "..") and "/" not in name
)
UNITS = TEXTS.filter(lambda unit: not any(character < " " or character == "\x7f" for character in unit))
COLUMN = st.one_of(
    st.lists(NUMBERS, min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=1, max_size=6),
    st.lists(TEXTS, min_size=1, max_size=6),
    st.lists(st.one_of(NUMBERS, st.booleans(), TEXTS, OBJECTS, st.lists(JSON, max_size=3)), min_size=1, max_size=6),
)


@pytest.mark.slow
@given(NAMES, NAMES, COLUMN, UNITS, OBJECTS, st.sampled_from(DIALECTS))
@example("d", "m", ["5 V", "6 V"], "°C", {}, STANDARD)
@example("d", "m", ["1,5", "2,5", "1,234"], "", {}, STANDARD)
@example("d", "m", ["yes", "no", "t"], "", {}, STANDARD)
@example("=d", "'=m", ["=1+1", "'=1+1", "-5", "", "'", "NULL", " x", "x "], " ', \"", {"=a": "=b"}, STANDARD)
@example("d", "m", [1.0, True, "true", "1.0", {"a": 1.0}, "{}"], "", {}, CsvDialect(";", ",", True))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_exported_rows_are_read_back(tmp_path_factory, device, metric, values, unit, tags, dialect):
    contexts = np.arange(len(values), dtype=np.int32) % 2
    entries = [write_context(unit or None, tags, None), write_context(None, None, None)]
    times = np.arange(len(values)) * 1_500_000 + 1_700_000_000_000_000
    series = ExportSeries(device, metric, times, values, None, entries, contexts)
    path = tmp_path_factory.getbasetemp() / "export.csv"
    path.write_bytes(dialect.begin(COLUMNS) + encode_csv_rows(series, dialect))
    source = CsvSource(str(path), DETECT_ALL)
    file_format = source.detect_format(DETECT_ALL)
    assert file_format.is_export and file_format.delimiter == dialect.delimiter
    reader = RowReader(file_format, None, None, LocalTime(find_zone("UTC")))
    batches = []
    for block in source.blocks(reader.width, file_format.first_line):
        rows = reader.read(block)
        kind = infer_exported_kind(rows.cells)
        assert kind is not None
        batches.append(batch_from_rows(rows, {metric: kind}))
        assert rows.rejected == []
    source.close()
    [batch] = batches
    assert [group.device_id for group in batch.groups] == [device] and set(batch.metrics) == {metric}
    assert batch.times.tolist() == times.tolist()
    stored = batch.values.tolist() if isinstance(batch.values, np.ndarray) else batch.values
    assert list(map(repr, stored)) == list(map(repr, values))
    found = (
        [read_context(batch.dictionary[number])[:2] for number in batch.contexts.tolist()]
        if batch.contexts is not None
        else []
    )
    expected = [(unit or None, tags) if number % 2 == 0 else (None, {}) for number in range(len(values))]
    assert [
        (found_unit or None, found_tags) for found_unit, found_tags in found or [(None, {})] * len(values)
    ] == expected


# --- through the API and the database -----------------------------------------------------------------

VALUES: dict[str, list[Any]] = {
    "texts": [
        *("=1+1", "'=1+1", "+1", "-5", "@x", "'quoted'", "'", "''", " leading", "trailing ", "\ttab", "two\nlines"),
        *(
            "cr\r\nlf",
            "\rcr",
            "",
            "NULL",
            "null",
            "NaN",
            "n/a",
            "inf",
            "true",
            "False",
            "yes",
            "5",
            "0,5",
            "1e5",
            "21.5 °C",
        ),
        *('{"a":1}', "[1]", '"', 'say "x"', "a,b;c", "sep=;", "2026-01-31", "Grüße 🌡"),
    ],
    "codes": ["404", "200", "007"],
    "states": ["yes", "no", "yes"],
    "numbers": [0.1, -0.0, 25.0, 1e22, 5e-324, 1.7976931348623157e308, -273.15, 1 / 3],
    "switch": [True, False, True],
    "objects": [{"=a": [1, 2.5, None]}, {"b": "'=x"}, {}],
    "mixed": [1.5, True, "=text", {"a": 1}, -2, "1.5", "true", "plain"],
    "=odd, name": [1, 2, 3],
}


@pytest.fixture(autouse=True)
def data_folder(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "var"


def load(*arguments: Any) -> str:
    output = io.StringIO()
    call_command("load", *map(str, arguments), stdout=output)
    return output.getvalue()


def contents(caller: ApiClient, device: str) -> dict[str, list[Any]]:
    """Return time, value, unit and tags of every point, by metric."""
    body = {"metrics": list(VALUES), "devices": [device], "start_time": START_TEXT, "end_time": END_TEXT}
    response = caller.post("query", body)
    assert response.status == 200, response.raw
    series = response.json.get("series") or [response.json]
    return {
        one["metric_name"]: [
            (point["timestamp"], json.dumps(point["value"]), point["unit"], point.get("tags") or one.get("tags") or {})
            for point in one["data_points"]
        ]
        for one in series
    }


def export_to(path: Path, caller: ApiClient, **options: Any) -> Path:
    names = {"device_ids": "source", "metric_names": [name.replace(",", "\\,") for name in VALUES]}
    query = names | {"start_time": START_TEXT, "end_time": END_TEXT} | options
    response = caller.get(f"export/csv?{urlencode(query, doseq=True)}")
    assert response.status == 200, response.raw
    path.write_bytes(response.raw)
    return path


def send_values(caller: ApiClient) -> None:
    units = itertools.cycle(["°C", None, 'a,"b"', " x ", "=1", "'=1", "-"])
    tags = itertools.cycle([{}, {"room, 1": '=x"y', "deep": {"a": [None, True]}}, {"'=a": "'"}])
    points = [
        point_at(number + (number % 3) / 8, metric, value, unit=next(units), tags=next(tags))
        for metric, values in VALUES.items()
        for number, value in enumerate(values)
    ]
    response = caller.post("devices/source/telemetry/batch", {"data_points": points})
    assert response.status == 200 and response.json["ingested_count"] == len(points), response.raw


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"bom": True}, {"delimiter": ";", "decimal": ",", "bom": True}, {"delimiter": "tab"}]
)
def test_loaded_export_has_the_contents_of_its_source(admin: ApiClient, tmp_path: Path, options: dict[str, Any]):
    send_values(admin)
    merge_all()
    before = contents(admin, "source")
    assert {name: len(points) for name, points in before.items()} == {name: len(v) for name, v in VALUES.items()}
    path = export_to(tmp_path / "export.csv", admin, **options)
    output = load(path, "--device", "copy")
    assert f"{sum(map(len, VALUES.values()))} points stored, 0 rows rejected" in output
    assert contents(admin, "copy") == before
    kinds = dict(MetricDefinition.objects.values_list("name", "data_type"))
    assert kinds == {
        "texts": "string", "codes": "string", "states": "string", "numbers": "numeric", "switch": "boolean",
        "objects": "json", "mixed": "json", "=odd, name": "numeric",
    }  # fmt: skip
    second = export_to(tmp_path / "again.csv", admin, **options, device_ids="copy").read_bytes()
    assert second.replace(b"copy", b"source") == path.read_bytes()


@pytest.mark.slow
def test_export_whose_values_change_their_kind_late_is_loaded_as_a_whole(admin: ApiClient, tmp_path: Path):
    step = timedelta(seconds=1)
    rows = [f"{START + number * step:%Y-%m-%dT%H:%M:%SZ},source,level,{number}.5,,{{}}" for number in range(3000)]
    rows += [f"{START + number * step:%Y-%m-%dT%H:%M:%SZ},source,level,overflow,,{{}}" for number in range(3000, 3010)]
    path = tmp_path / "late.csv"
    path.write_bytes("\r\n".join([",".join(COLUMNS), *rows, ""]).encode())
    output = load(path, "--batch", 1000)
    assert "3,010 points stored, 0 rows rejected" in output and "several kinds" in output
    assert MetricDefinition.objects.get(name="level").data_type == "json"


def test_empty_rows_at_the_end_are_ignored(admin: ApiClient, tmp_path: Path):
    path = tmp_path / "spreadsheet.csv"
    path.write_bytes(
        b"timestamp,value,,\r\n2026-01-31T12:00:00Z,1.5,,\r\n2026-01-31T12:00:01Z,2.5,,\r\n"
        b",,,\r\n,,\r\n,,,,,\r\n , \r\n"
    )
    assert "2 points stored, 0 rows rejected" in load(path, "--device", "d", "--metric", "m")


def test_marked_text_is_no_number(admin: ApiClient, tmp_path: Path):
    MetricDefinition.objects.create(name="m", data_type="numeric")
    path = tmp_path / "texts.csv"
    path.write_bytes(b"timestamp,value\r\n2026-01-31T12:00:00Z,'5\r\n2026-01-31T12:00:01Z,2.5\r\n")
    output = load(path, "--device", "d", "--metric", "m")
    assert "1 points stored, 1 rows rejected" in output and "is a text" in output
