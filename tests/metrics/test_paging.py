"""Paging by cursor returns every row once, even if rows are added or deleted meanwhile."""

import random

import pytest
from django.core.signing import Signer
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from metrics.models import Device, ExportJob, MetricDefinition
from rest.pagination import page
from tests.conftest import ApiClient

ROW_COUNT = 23


@pytest.fixture
def definitions(admin: ApiClient) -> ApiClient:
    """Definitions whose names a collation sorts differently from their bytes."""
    for number in range(ROW_COUNT):
        MetricDefinition.objects.create(name=f"{'aBcDé'[number % 5]}{number}", data_type="numeric")
    return admin


def read_all_names(caller: ApiClient, query: str) -> list[str]:
    """Return the names on all pages."""
    all_names, cursor, read_all_keys = [], "", 0
    while True:
        response = caller.get(f"metrics?{query}{cursor}")
        assert response.status == 200, response.raw
        body, read_all_keys = response.json, read_all_keys + 1
        all_names += [metric["name"] for metric in body["metrics"]]
        assert body["count"] == len(body["metrics"]) and body["total"] >= body["count"] and read_all_keys < 50
        if body["next_cursor"] is None:
            return all_names
        cursor = f"&cursor={body['next_cursor']}"


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 7, ROW_COUNT - 1, ROW_COUNT, ROW_COUNT + 1])
def test_cursor_pages_contain_the_whole_list_in_order(definitions: ApiClient, limit: int):
    all_names = [metric["name"] for metric in definitions.get("metrics").json["metrics"]]
    assert len(all_names) == ROW_COUNT and read_all_names(definitions, f"limit={limit}") == all_names


@pytest.mark.slow
def test_filter_applies_to_every_page(definitions: ApiClient):
    expected = [metric["name"] for metric in definitions.get("metrics?search=1").json["metrics"]]
    assert read_all_names(definitions, "search=1&limit=3") == expected and len(expected) > 6


@pytest.mark.slow
def test_added_and_deleted_rows_do_not_shift_cursor_pages(definitions: ApiClient):
    all_names = read_all_names(definitions, "limit=1000")
    first = definitions.get("metrics?limit=10").json
    MetricDefinition.objects.filter(
        name__in=[all_names[0], all_names[5], all_names[9]]
    ).delete()  # including the last row of the page
    MetricDefinition.objects.create(name="A first one", data_type="numeric")
    second = definitions.get(f"metrics?limit=5&cursor={first['next_cursor']}").json
    assert [metric["name"] for metric in second["metrics"]] == all_names[10:15]
    by_offset = definitions.get("metrics?limit=5&offset=10").json
    assert [metric["name"] for metric in by_offset["metrics"]] != all_names[10:15]  # pages by offset shift


def test_offset_page_returns_a_cursor(definitions: ApiClient):
    all_names = read_all_names(definitions, "limit=1000")
    first = definitions.get("metrics?limit=5&offset=5").json
    second = definitions.get(f"metrics?limit=5&cursor={first['next_cursor']}").json
    assert [metric["name"] for metric in first["metrics"] + second["metrics"]] == all_names[5:15]


FOREIGN = pytest.param(Signer().sign_object(["a1"]), id="of another signer")  # signed with another secret key


@pytest.mark.parametrize("cursor", ["x", "1", "%00", "é", "WyJhMSJd:abc", "x" * 5000, FOREIGN])
def test_foreign_cursor_is_rejected(definitions: ApiClient, cursor: str):
    response = definitions.get(f"metrics?cursor={cursor.replace('é', '%C3%A9')}")
    assert response.status == 400 and response.json["errors"][0]["field"] == "cursor"


def test_cursor_of_another_list_or_modified_cursor_is_rejected(definitions: ApiClient):
    for _ in range(2):
        ExportJob.objects.create(owner="x", question={}, format="csv")
    _, paging = page(list_request("limit=1"), ExportJob.objects.all())
    valid_cursor = definitions.get("metrics?limit=1").json["next_cursor"]
    for cursor in (paging["next_cursor"], valid_cursor[:-1], valid_cursor.upper(), f"{valid_cursor}&offset=1"):
        response = definitions.get(f"metrics?cursor={cursor}")
        expected = 422 if "offset" in cursor else 400
        assert response.status == expected and response.json["errors"][0]["field"] == "cursor"
    assert definitions.get(f"metrics?cursor={valid_cursor}&offset=0").status == 200


def list_request(query: str) -> Request:
    return Request(APIRequestFactory().get(f"/?{query}"))


def read_all_keys(queryset: QuerySet, limit: int) -> list[int]:
    rows, paging = page(list_request(f"limit={limit}"), queryset)
    keys = [row.pk for row in rows]
    while paging["next_cursor"] is not None:
        rows, paging = page(list_request(f"limit={limit}&cursor={paging['next_cursor']}"), queryset)
        keys += [row.pk for row in rows]
    return keys


@pytest.mark.parametrize(
    "order",
    [("pk",), ("-pk",), ("status", "pk"), ("-status", "created_at"), ("finished_at",), ("-finished_at", "status")],
)
def test_every_order_is_complete_with_equal_and_null_values(site: None, order: tuple[str, ...]):
    rng, now = random.Random(1), timezone.now()
    for _ in range(40):
        job = ExportJob(owner="x", question={}, format="csv", status=rng.choice(["done", "failed"]))
        job.created_at = now.replace(microsecond=rng.randrange(3))
        job.finished_at = rng.choice([None, now, now.replace(microsecond=5)])
        job.save()
    queryset = ExportJob.objects.order_by(*order)
    keys = read_all_keys(queryset, 7)
    assert sorted(keys) == sorted(job.pk for job in queryset) and len(keys) == 40
    jobs = list(ExportJob.objects.order_by(*order))
    by_key = {job.pk: job for job in jobs}
    columns = [name.lstrip("-") for name in order if name.lstrip("-") != "pk"]
    for column in columns[:1]:
        assert [getattr(by_key[key], column) for key in keys] == [getattr(job, column) for job in jobs]


def test_distant_page_needs_as_many_statements_as_the_first(site: None, django_assert_num_queries):
    Device.objects.bulk_create(Device(device_id=f"d{number:04d}") for number in range(1000))
    queryset = Device.objects.order_by("device_id")
    _, paging = page(list_request("limit=10&offset=900"), queryset)
    with django_assert_num_queries(2):
        rows, _ = page(list_request(f"limit=10&cursor={paging['next_cursor']}"), queryset)
    assert [row.device_id for row in rows] == [f"d{number:04d}" for number in range(910, 920)]
    with pytest.raises(ValidationError):
        page(list_request("limit=0"), queryset)
