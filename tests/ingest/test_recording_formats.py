"""Recordings as loggers, spreadsheets and other products write them. Needs no database."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.recordings.encoding import detect_encoding
from ingest.recordings.errors import UnreadableRecording
from ingest.recordings.file_format import FormatOptions
from ingest.recordings.load import LoadOptions
from ingest.recordings.local_time import LocalTime
from ingest.recordings.number_format import NumberFormat, detect_number_format
from ingest.recordings.preview import preview
from ingest.recordings.time_formats import TimeFormat, detect_time_format, to_iso
from ingest.recordings.timestamps import parse_time_column

BERLIN = ZoneInfo("Europe/Berlin")


def preview_points(path: Path, content: bytes | str, tz: str | None = None, **options: object) -> list[tuple[str, ...]]:
    """Return (time, device, metric, value with unit) of the first points of a file."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    file_format = FormatOptions(device="d", **options)  # type: ignore[arg-type]
    load_options = LoadOptions(
        str(path), "d", None, ZoneInfo(tz or "UTC"), format=file_format, has_stated_zone=tz is not None
    )
    lines = list(preview(load_options))
    if "first points:" not in lines:
        return []
    points = [line for line in lines[lines.index("first points:") + 1 :] if " is rejected" not in line]
    return [tuple(part for part in line.strip().split("  ")) for line in points]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kiln.csv"


PLAIN = "timestamp,value\n2026-11-28 10:00:00,1\n2026-11-28 10:01:00,2.5\n"
PLAIN_POINTS = [("2026-11-28 10:00:00 UTC", "d", "kiln", "1"), ("2026-11-28 10:01:00 UTC", "d", "kiln", "2.5")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encodings_line_ends_and_delimiters_read_the_same(
    file: Path, encoding: str, line_end: str, delimiter: str
) -> None:
    text = PLAIN.replace("\n", line_end).replace(",", delimiter)
    assert preview_points(file, text.encode(encoding)) == PLAIN_POINTS


@pytest.mark.slow
@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=300))
def test_utf_8_is_never_taken_for_another_encoding(text: str) -> None:
    assert detect_encoding(text.encode().removeprefix(b"\xef\xbb\xbf"))[0].startswith("utf")


@pytest.mark.parametrize(
    ("content", "points"),
    [
        pytest.param(
            "entity_id,state,last_changed\nsensor.hall,21.5,2026-11-28T10:00:00.000Z\n"
            "sensor.hall,unavailable,2026-11-28T10:01:00.000Z\nsensor.hall,21.7,2026-11-28T10:02:00.000Z\n",
            [("10:00", "sensor.hall", "21.5"), ("10:02", "sensor.hall", "21.7")],
            id="Home Assistant history",
        ),
        pytest.param(
            '"Time","hall","cellar"\n1795860000000,21.5 °C,40 %\n1795860060000,,41 %\n',
            [("10:00", "hall", "21.5 °C"), ("10:00", "cellar", "40 %"), ("10:01", "cellar", "41 %")],
            id="Grafana export",
        ),
        pytest.param(
            "#group,false,false,true,true,true\n#datatype,string,long,dateTime:RFC3339,double,string\n#default,mean,,,,\n"
            ",result,table,_time,_value,_field\n,,0,2026-11-28T10:00:00Z,15.5,user\n\n"
            "#group,false,false,true,true,true\n#datatype,string,long,dateTime:RFC3339,double,string\n#default,mean,,,,\n"
            ",result,table,_time,_value,_field\n,,1,2026-11-28T10:00:00Z,1.5,system\n",
            [("10:00", "user", "15.5"), ("10:00", "system", "1.5")],
            id="InfluxDB annotated CSV",
        ),
        pytest.param(
            '"TOA5","CR1000","CR1000","12345","std","CPU:p.CR1","4321","Table1"\n"TIMESTAMP","RECORD","Batt_Min","Rad"\n'
            '"TS","RN","Volts","W/m2"\n"","","Min","Avg"\n"2026-11-28 10:00:00",0,12.6,300\n'
            '"2026-11-28 10:10:00",1,"NAN",301\n',
            [("10:00", "Batt_Min", "12.6 Volts"), ("10:00", "Rad", "300 W/m2"), ("10:10", "Rad", "301 W/m2")],
            id="Campbell TOA5",
        ),
        pytest.param(
            "STATIONS_ID;MESS_DATUM;QN_9;TT_TU;RF_TU;eor\n        433;2026112810;    3;   5.2;  81.0;eor\n"
            "        433;2026112811;    3;-999;  82.0;eor\n",
            [("10:00", "TT_TU", "5.2"), ("10:00", "RF_TU", "81.0"), ("11:00", "RF_TU", "82.0")],
            id="DWD",
        ),
        pytest.param(
            "\ufeffTimestamp for sample frequency every 1 min min,Temperature_Celsius,Relative_Humidity\r\n"
            "2026-11-28 10:00:00,21.5,40.1\r\n",
            [("10:00", "Temperature_Celsius", "21.5 °C"), ("10:00", "Relative_Humidity", "40.1")],
            id="Govee",
        ),
        pytest.param(
            '"Plot Title: 10359479"\n"#","Date Time, GMT+01:00","Temp, °C (LGR S/N: 1, SEN S/N: 1)","Stop (S/N: 1)"\n'
            "1,11/28/26 11:00:00 AM,21.5,\n2,11/28/26 02:05:00 PM,21.6,Logged\n",
            [("10:00", "Temp", "21.5 °C"), ("13:05", "Temp", "21.6 °C")],
            id="HOBO",
        ),
        pytest.param(
            "sep=;\r\nDatum;Uhrzeit;Temperatur [°C]\r\n28.11.2026;10:00;1.021,5\r\n28.11.2026;10:05:30;-0,75\r\n;;\r\n",
            [("10:00", "Temperatur", "1021.5 °C"), ("10:05:30", "Temperatur", "-0.75 °C")],
            id="German spreadsheet",
        ),
        pytest.param(
            "Station: hall\nSerial: 17\n\nDate;Value\n46354,416667;1,5\n46354,5;2,25\n",
            [("10:00", "kiln", "1.5"), ("12:00", "kiln", "2.25")],
            id="serial dates below a preamble",
        ),
    ],
)
def test_file_of_a_product_is_read_without_options(
    file: Path, content: str, points: list[tuple[str, str, str]]
) -> None:
    expected = [(f"2026-11-28 {time:0<5}{':00' * (len(time) == 5)} UTC", "d", *rest) for time, *rest in points]
    assert preview_points(file, content) == expected


def test_zone_of_the_option_overrides_the_offset_of_the_header(file: Path) -> None:
    content = '"Date Time, GMT+01:00","Temp, °C"\n11/28/26 11:00:00 AM,21.5\n'
    assert preview_points(file, content)[0][0] == "2026-11-28 10:00:00 UTC"
    assert preview_points(file, content, tz="America/New_York")[0][0] == "2026-11-28 16:00:00 UTC"


def test_comma_that_separates_decimals_or_thousands_needs_an_option(file: Path) -> None:
    content = 'timestamp,value\n2026-11-28 10:00:00,"1,234"\n2026-11-28 10:01:00,"2,500"\n'
    with pytest.raises(UnreadableRecording, match="--decimal , or --decimal"):
        preview_points(file, content)
    assert [point[-1] for point in preview_points(file, content, decimal=",")] == ["1.234", "2.500"]
    assert [point[-1] for point in preview_points(file, content, decimal=".")] == ["1234", "2500"]


def test_dates_without_a_day_over_12_need_an_option(file: Path) -> None:
    content = "time,value\n05/06/2026 10:00,1\n06/06/2026 10:00,2\n"
    with pytest.raises(UnreadableRecording, match="--dates dmy or --dates mdy"):
        preview_points(file, content)
    assert preview_points(file, content, dates="dmy")[0][0] == "2026-06-05 10:00:00 UTC"
    assert preview_points(file, content, dates="mdy")[0][0] == "2026-05-06 10:00:00 UTC"


def test_sentinels_are_compared_by_value_and_skipped(file: Path) -> None:
    content = PLAIN + "2026-11-28 10:02:00,-999.0\n2026-11-28 10:03:00,offline\n"
    missing = frozenset({"-999", "offline"})
    assert preview_points(file, content, missing=missing) == PLAIN_POINTS


def test_columns_option_selects_metrics_and_names_the_unknown_one(file: Path) -> None:
    content = "time,a,b,note\n2026-11-28 10:00:00,1,2,x\n"
    assert [point[2] for point in preview_points(file, content)] == ["a", "b"]
    assert [point[2] for point in preview_points(file, content, columns=("b",))] == ["b"]
    with pytest.raises(UnreadableRecording, match="no column 'c'; the file has 'time', 'a', 'b', 'note'"):
        preview_points(file, content, columns=("c",))


@pytest.mark.parametrize(
    ("cells", "unit_count", "expected"),
    [
        (["21.5 °C", "22 °C"], 1, (["21.5", "22"], ["°C", "°C"])),
        (["50%", "n/a", "51%"], 1, (["50", "n/a", "51"], ["%", "", "%"])),
        (["1,5 bar", "2 bar"], 1, (["1.5", "2"], ["bar", "bar"])),
        (["1.234,5", "0,25"], 1, (["1234.5", "0.25"], None)),
        (["1,234.5", "12"], 1, (["1234.5", "12"], None)),
        (["3 apples", "4 pears"], 1, (["3 apples", "4 pears"], None)),
        (["open", "shut, locked"], 1, (["open", "shut, locked"], None)),
    ],
)
def test_numbers_in_other_forms_are_converted(
    cells: list[str], unit_count: int, expected: tuple[list[str], list[str] | None]
) -> None:
    assert detect_number_format(cells, unit_count, None, frozenset()).convert(cells) == expected


@pytest.mark.slow
@given(st.floats(-1e9, 1e9).map(lambda value: round(value, 3)))
def test_decimal_commas_keep_the_value(value: float) -> None:
    written = f"{value:,.3f}".translate(str.maketrans(",.", ".,"))
    (converted,), _ = NumberFormat(",").convert([written])
    assert float(converted) == value


@pytest.mark.slow
@given(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)).map(lambda moment: moment.replace(microsecond=0)))
def test_time_formats_keep_the_moment(moment: datetime) -> None:
    serial = (moment - datetime(1899, 12, 30)).total_seconds() / 86_400
    written = {
        TimeFormat.DAY_FIRST: f"{moment:%d.%m.%Y %H:%M:%S}",
        TimeFormat.MONTH_FIRST: f"{moment:%m/%d/%Y %I:%M:%S %p}",
        TimeFormat.YEAR_FIRST: f"{moment.year}/{moment.month}/{moment.day} {moment.hour}:{moment:%M:%S}",
        TimeFormat.COMPACT: f"{moment:%Y%m%d%H%M%S}",
        TimeFormat.SERIAL: f"{serial:.6f}",
    }
    expected = int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000
    for time_format, text in written.items():
        assert detect_time_format([text]) is time_format
        assert parse_time_column(to_iso([text], time_format)).times.tolist() == [expected]


@pytest.mark.parametrize("is_descending", [False, True])
def test_hour_that_occurs_twice_is_resolved_in_both_directions(is_descending: bool) -> None:
    start = int(datetime(2026, 10, 24, 22, tzinfo=UTC).timestamp())
    utc_times = [(start + 300 * number) * 1_000_000 for number in range(60)]
    if is_descending:
        utc_times.reverse()
    texts = [datetime.fromtimestamp(time / 1e6, BERLIN).strftime("%Y-%m-%d %H:%M:%S") for time in utc_times]
    for devices in (1, 3):  # the rows of several devices alternate, and one is in the other direction
        series: list[str] = []
        rows: list[str] = []
        expected: list[int] = []
        for number in range(len(texts)):
            for device in range(devices):
                position = len(texts) - 1 - number if device == 2 else number
                series.append(f"d{device}")
                rows.append(texts[position])
                expected.append(utc_times[position])
        converted = LocalTime(BERLIN).to_utc(parse_time_column(rows), lambda series=series: series)  # type: ignore[misc]
        assert np.array_equal(converted, expected)
