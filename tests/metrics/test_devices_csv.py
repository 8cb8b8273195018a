"""CSV export and import of devices."""

import csv
import io
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from metrics.devices import csv_cells, csv_table
from metrics.models import Device, DeviceGroup, Revision
from rest import csv_text
from rest.names import name_error
from tests.conftest import ApiClient, ApiResponse

HEAD = "device_id,name,device_type,expected_interval,latitude,longitude,location,groups,tags"
EXPORTED_HEAD = f"{HEAD},description,metadata"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
PRESS = 'press-1,Press 1,press,10,52.5,-13.4,Hall 3,site a;site b,"{""line"":""2""}"'


@pytest.fixture
def sites(admin: ApiClient) -> ApiClient:
    for name in ("site a", "site b"):
        DeviceGroup.objects.get_or_create(name=name)
    return admin


def import_csv(caller: ApiClient, *lines: str, query: str = "", **headers: str) -> ApiResponse:
    body = "\r\n".join([HEAD, *lines, ""]).encode()
    return caller.post(f"devices.csv{query}", body, **({"Content_Type": "text/csv"} | headers))


def stored_devices() -> list[Any]:
    fields = ("device_id", "name", "device_type", "expected_interval", "latitude", "longitude", "location", "tags")
    return [
        (*(getattr(device, name) for name in fields), sorted(group.name for group in device.groups.all()))
        for device in Device.objects.order_by("device_id")
    ]


def test_import_creates_devices_and_is_idempotent(sites: ApiClient):
    response = import_csv(sites, PRESS, "oven-1,,,,,,,,")
    assert response.status == 200, response.raw
    assert response.json | {"changes": []} == {
        "created": 2, "updated": 0, "unchanged": 0, "failed": 0, "dry_run": False, "changes": [], "errors": [],
    }  # fmt: skip
    assert response.json["changes"][1] == {"line": 3, "device_id": "oven-1", "action": "create", "fields": []}
    assert stored_devices() == [
        ("oven-1", "", "", None, None, None, "", {}, []),
        ("press-1", "Press 1", "press", 10, 52.5, -13.4, "Hall 3", {"line": "2"}, ["site a", "site b"]),
    ]
    second = import_csv(sites, PRESS, "oven-1,,,,,,,,").json
    assert (second["created"], second["updated"], second["unchanged"], second["changes"]) == (0, 0, 2, [])


def test_missing_column_keeps_values_and_empty_cell_clears_them(sites: ApiClient):
    import_csv(sites, PRESS)
    revision = Revision.objects.get().number
    response = sites.post("devices.csv", b"expected_interval,device_id\n,press-1\n", Content_Type="text/csv")
    assert response.json["changes"] == [
        {"line": 2, "device_id": "press-1", "action": "update", "fields": ["expected_interval"]}
    ]
    assert stored_devices()[0][1:4] == ("Press 1", "press", None) and stored_devices()[0][-1] == ["site a", "site b"]
    assert Revision.objects.get().number == revision  # no cache has to be refreshed
    sites.post("devices.csv", b"device_id,groups,tags\npress-1,site b,\n", Content_Type="text/csv")
    assert stored_devices()[0][-2:] == ({}, ["site b"])


def test_dry_run_reports_changes_without_making_them(sites: ApiClient):
    response = import_csv(sites, PRESS, "x,,,never,,,,,", query="?dry_run=true")
    assert response.status == 200 and response.json["dry_run"] is True
    assert (response.json["created"], response.json["failed"]) == (1, 1)
    assert response.json["errors"][0]["line"] == 3 and response.json["errors"][0]["field"] == "expected_interval"
    assert stored_devices() == []


@pytest.mark.parametrize(
    ("line", "field", "accepted"),
    [
        (",x,,,,,,,", "device_id", "required"),
        ("  ,x,,,,,,,", "device_id", "required"),
        ("x" * 201 + ",,,,,,,,", "device_id", "200"),
        ("a\tb,,,,,,,,", "device_id", "control characters"),
        ('"a\nb",,,,,,,,', "device_id", "control characters"),
        ("a\0,,,,,,,,", "device_id", "NUL"),
        ("a," + "x" * 201 + ",,,,,,,", "name", "200"),
        ("a,,b\0,,,,,,", "device_type", "NUL"),
        ("a,,,0,,,,,", "expected_interval", "31,622,400"),
        ("a,,,1.5,,,,,", "expected_interval", "whole seconds"),
        ("a,,,99999999999999999999,,,,,", "expected_interval", "whole seconds"),
        ("a,,,٣,,,,,", "expected_interval", "whole seconds"),
        ("a,,,,90.1,0,,,", "latitude", "-90 to 90"),
        ('a,,,,"52,5",0,,,', "latitude", "decimal point"),
        ("a,,,,nan,0,,,", "latitude", "-90 to 90"),
        ("a,,,,0,inf,,,", "longitude", "-180 to 180"),
        ("a,,,,0,,,,", "longitude", "together"),
        ("a,,,,,,,site c,", "groups", "'site c' does not exist"),
        ("a,,,,,,,,line 2", "tags", "JSON object"),
        ('a,,,,,,,,"{""a"":1}"', "tags", "JSON object"),
        ('a,,,,,,,,"{""a:b"":""c""}"', "tags", "colon"),
        ('a,,,,,,,,"{""a"":""\\u0000""}"', "tags", "NUL"),
        ("a,b", "", "has 2 cells, must have 9"),
    ],
)
def test_invalid_row_rejects_the_import_with_line_and_column(sites: ApiClient, line, field, accepted):
    response = import_csv(sites, PRESS, line)
    assert response.status == 422, response.raw
    assert "1 of 2 rows are invalid: nothing was changed" in response.json["detail"]
    [error] = response.json["errors"]
    assert (error["line"], error["field"]) == (3, field) and accepted in error["detail"]
    assert stored_devices() == []


def test_partial_import_takes_valid_rows(sites: ApiClient):
    response = import_csv(sites, "a,,,,,,,,", "b,,,x,,,,,", "a,,,,,,,,", '"c",,,,,,,,', query="?partial=true")
    assert response.status == 200 and (response.json["created"], response.json["failed"]) == (2, 2)
    assert [(error["line"], error["detail"]) for error in response.json["errors"]][1] == (4, "is a duplicate of line 2")
    assert [row[0] for row in stored_devices()] == ["a", "c"]


def test_error_lines_are_numbered_as_in_an_editor(sites: ApiClient):
    response = import_csv(sites, '"a\r\nb",,,,,,,,', "", "c,,,x,,,,,")
    assert [error["line"] for error in response.json["errors"]] == [2, 5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "device_id is missing"),
        (b"name\nx\n", "device_id is missing"),
        (b"device_id,colour\nx,red\n", "column 'colour' is unknown"),
        (b"device_id,device_id\nx,x\n", "twice"),
        (b"device_id,latitude\nx,1\n", "together"),
        (b"device_id\n\xff\n", "UTF-8"),
        (b'device_id\n"x\n', "line 2 is not CSV"),
        (b'device_id\na\n"x"y\n', "line 3 is not CSV"),
        (b'device_id\n"' + b"x" * 200_000 + b'"\n', "line 2 is not CSV"),
        (b"device_id\n" + b"".join(b"d%d\n" % n for n in range(100_001)), "split it"),
    ],
)
def test_file_that_is_not_a_device_list_is_rejected(sites: ApiClient, body: bytes, detail: str):
    response = sites.post("devices.csv", body, Content_Type="text/csv")
    assert response.status == 400 and detail in response.json["detail"]
    assert stored_devices() == []


def test_import_accepts_a_multipart_file(sites: ApiClient):
    def send_form(*files: str) -> ApiResponse:
        parts = "".join(
            f'--xx\r\nContent-Disposition: form-data; name="f{n}"; filename="d.csv"\r\n\r\n{text}\r\n'
            for n, text in enumerate(files)
        )
        kind = "multipart/form-data; boundary=xx"
        return sites.post("devices.csv", f"{parts}--xx--\r\n".encode(), Content_Type=kind)

    assert send_form("\ufeffdevice_id\r\nfrom a form").json["created"] == 1  # with a byte order mark, as from Excel
    assert send_form().status == send_form("device_id\nx", "device_id\ny").status == 400
    assert sites.post("devices.csv", {"a": 1}).status == 415
    assert sites.post("devices.csv?dry_run=perhaps", b"device_id\nx", Content_Type="text/csv").status == 400


TEXTS = [
    *(
        "=1+1",
        "+49 30",
        "-1",
        "@me",
        "'=1",
        "''@x",
        "'quoted'",
        "'",
        "''",
        "＝1",
        'a "b", c',
        "ü;ß",
        "x",
        "NULL",
        "0,5",
    ),
    *("  spaces ", "\ttab", "two\nlines", "cr\r\nlf", "\u00a0x", "' x", "sep=;", "a\\;b\\", "true", "\ufeffmark"),
]
DIALECTS = ["", "?bom=true", "?delimiter=;", "?delimiter=;&decimal=,&bom=true", "?delimiter=tab"]


def create_device(number: int, text: str) -> None:
    name = text if name_error(text) is None else "x"
    group, _ = DeviceGroup.objects.get_or_create(name=text)
    device = Device.objects.create(
        device_id=f"{name}{number}", name=name, device_type=text, location=text, description=text * 3,
        metadata={text: [text, 0.1, {"a": None}]}, latitude=-5.25, longitude=-1e-7, expected_interval=number or None,
        tags={text if text.isprintable() else "t": text},
    )  # fmt: skip
    device.groups.add(group, DeviceGroup.objects.get_or_create(name="site a")[0])


def all_fields() -> list[Any]:
    fields = ("description", "metadata", "device_id")
    return [*stored_devices(), *Device.objects.order_by("device_id").values_list(*fields)]


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_export_followed_by_import_changes_nothing(sites: ApiClient, dialect: str):
    for number, text in enumerate(TEXTS):
        create_device(number, text)
    before = all_fields()
    response = sites.get(f"devices.csv{dialect}")
    assert response.status == 200 and response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="devices.csv"'
    result = sites.post("devices.csv", response.raw, Content_Type="text/csv").json
    assert (result["unchanged"], result["updated"], result["created"]) == (len(TEXTS), 0, 0), result
    Device.objects.all().delete()
    assert sites.post("devices.csv", response.raw, Content_Type="text/csv").json["created"] == len(TEXTS)
    assert all_fields() == before


@pytest.mark.slow
def test_export_has_no_formula_and_the_stated_dialect(sites: ApiClient):
    for number, text in enumerate(TEXTS):
        create_device(number, text)
    raw = sites.get("devices.csv?delimiter=;&decimal=,&bom=true").raw
    assert raw.startswith(b"\xef\xbb\xbfdevice_id;name;")
    rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), delimiter=";"))
    assert not any(row[name].startswith(("=", "+", "@", "＝", "\t", "\r")) for row in rows for name in row)
    assert {row["latitude"] for row in rows} == {"-5,25"}  # numbers are not escaped
    for parameters, field in (("decimal=,", "decimal"), ("delimiter=x", "delimiter"), ("bom=perhaps", "bom")):
        response = sites.get(f"devices.csv?{parameters}")
        assert response.status == 400 and [error["field"] for error in response.json["errors"]] == [field]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b"device_id,name\r\na,b\r\n,\r\n,\r\n", 1),
        (b"device_id,name,,\r\na,b,,\r\n,,,\r\nc,d,,\r\n,,,,,,\r\n \r\n", 2),
        (b"sep=;\r\ndevice_id;latitude;longitude\r\na;5,25;-0,5\r\n;;\r\n", 1),
        (b"\xef\xbb\xbfsep=,,\r\ndevice_id,name,\r\na,b,\r\n", 1),
        (b'"device_id"\t"name"\r\n"a;b"\t"c,d"\r\n\t\r\n', 1),
    ],
)
def test_spreadsheet_file_with_empty_rows_and_columns_is_imported(admin: ApiClient, body: bytes, count: int):
    response = admin.post("devices.csv", body, Content_Type="text/csv")
    assert response.status == 200, response.raw
    assert (response.json["created"], response.json["failed"], Device.objects.count()) == (count, 0, count)


@pytest.mark.slow
@given(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40), st.sampled_from(",;\t")
)
def test_text_survives_encoding_as_a_cell(text: str, delimiter: str):
    line = csv_text.text_cell(text).decode() + delimiter + csv_text.value_text_cell(text).decode()
    [[cell, value]] = csv.reader(io.StringIO(line, newline=""), delimiter=delimiter, strict=True)
    assert csv_text.read_text_cell(cell) == text and not cell.startswith(FORMULA)
    marked = csv_text.read_marked_text(value)
    assert (value if marked is None else marked) == text and not value.startswith(FORMULA)
    assert marked is not None or (value and value == value.strip())


NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=8)


@pytest.mark.slow
@given(st.sets(NAMES.filter(str.strip), max_size=5))
def test_list_of_groups_survives_encoding_as_a_cell(names: set[str]):
    cell = csv_cells.write_groups(tuple(sorted(names))).decode()
    [[decoded]] = list(csv.reader(io.StringIO(cell, newline=""), strict=True)) or [[""]]
    assert csv_cells.read_groups(decoded) == tuple(sorted(names))


@given(st.binary(max_size=200))
def test_any_file_is_parsed_or_rejected_with_a_message(body: bytes):
    try:
        table = csv_table.read_table(b"device_id,tags,latitude,longitude\n" + body)
    except csv_table.UnreadableTable as error:
        assert str(error)
    else:
        assert table.failed >= len({error.line for error in table.errors})


@pytest.mark.slow
def test_export_has_visible_devices_and_only_admins_may_import(
    sites: ApiClient,
    viewer: ApiClient,
    stranger: ApiClient,
    operator: ApiClient,
    reader: ApiClient,
    gateway: ApiClient,
    anonymous: ApiClient,
):
    import_csv(sites, PRESS, "hidden,,,,,,,site b,")
    assert [line.split(",")[0] for line in viewer.get("devices.csv").raw.decode().split()[1:2]] != []
    rows = list(csv.DictReader(io.StringIO(viewer.get("devices.csv").raw.decode())))
    assert [(row["device_id"], row["groups"]) for row in rows] == [("press-1", "site a")]
    assert stranger.get("devices.csv").raw.decode() == f"{EXPORTED_HEAD}\r\n"
    assert reader.get("devices.csv").raw.count(b"\r\n") == 3
    assert gateway.get("devices.csv").status == 403 and anonymous.get("devices.csv").status == 401
    for caller, status in ((viewer, 403), (operator, 403), (reader, 403), (gateway, 403), (anonymous, 401)):
        assert import_csv(caller, "x,,,,,,,,").status == status
