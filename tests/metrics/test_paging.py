"""Pages of lists by cursor: every row once, whatever comes and goes meanwhile."""

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

MANY = 23


@pytest.fixture
def definitions(admin: ApiClient) -> ApiClient:
    """The names are such that a collation and the order of bytes differ."""
    for number in range(MANY):
        MetricDefinition.objects.create(name=f"{'aBcDé'[number % 5]}{number}", data_type="numeric")
    return admin


def names(caller: ApiClient, query: str) -> list[str]:
    """All pages, one after the other."""
    found, cursor, pages = [], "", 0
    while True:
        answer = caller.get(f"metrics?{query}{cursor}")
        assert answer.status == 200, answer.raw
        body, pages = answer.json, pages + 1
        found += [one["name"] for one in body["metrics"]]
        assert body["count"] == len(body["metrics"]) and body["total"] >= body["count"] and pages < 50
        if body["next_cursor"] is None:
            return found
        cursor = f"&cursor={body['next_cursor']}"


@pytest.mark.parametrize("limit", [1, 7, MANY - 1, MANY, MANY + 1])
def test_cursor_pages_contain_the_whole_list_in_order(definitions: ApiClient, limit: int):
    whole = [one["name"] for one in definitions.get("metrics").json["metrics"]]
    assert len(whole) == MANY and names(definitions, f"limit={limit}") == whole


def test_filter_applies_to_every_page(definitions: ApiClient):
    expected = [one["name"] for one in definitions.get("metrics?search=1").json["metrics"]]
    assert names(definitions, "search=1&limit=3") == expected and len(expected) > 6


def test_added_and_deleted_rows_do_not_shift_cursor_pages(definitions: ApiClient):
    whole = names(definitions, "limit=1000")
    first = definitions.get("metrics?limit=10").json
    MetricDefinition.objects.filter(name__in=[whole[0], whole[5], whole[9]]).delete()  # the last of the page too
    MetricDefinition.objects.create(name="A first one", data_type="numeric")
    second = definitions.get(f"metrics?limit=5&cursor={first['next_cursor']}").json
    assert [one["name"] for one in second["metrics"]] == whole[10:15]
    moved = definitions.get("metrics?limit=5&offset=10").json
    assert [one["name"] for one in moved["metrics"]] != whole[10:15]  # which an offset cannot


def test_offset_page_returns_a_cursor(definitions: ApiClient):
    whole = names(definitions, "limit=1000")
    first = definitions.get("metrics?limit=5&offset=5").json
    second = definitions.get(f"metrics?limit=5&cursor={first['next_cursor']}").json
    assert [one["name"] for one in first["metrics"] + second["metrics"]] == whole[5:15]


FOREIGN = pytest.param(Signer().sign_object(["a1"]), id="of another signer")  # each installation's own


@pytest.mark.parametrize("cursor", ["x", "1", "%00", "é", "WyJhMSJd:abc", "x" * 5000, FOREIGN])
def test_foreign_cursor_is_rejected(definitions: ApiClient, cursor: str):
    answer = definitions.get(f"metrics?cursor={cursor.replace('é', '%C3%A9')}")
    assert answer.status == 400 and answer.json["errors"][0]["field"] == "cursor"


def test_cursor_of_another_list_or_modified_cursor_is_rejected(definitions: ApiClient):
    for _ in range(2):
        ExportJob.objects.create(owner="x", question={}, format="csv")
    _, told = page(asked("limit=1"), ExportJob.objects.all())
    given = definitions.get("metrics?limit=1").json["next_cursor"]
    for cursor in (told["next_cursor"], given[:-1], given.upper(), f"{given}&offset=1"):
        answer = definitions.get(f"metrics?cursor={cursor}")
        assert answer.status == 400 and answer.json["errors"][0]["field"] == "cursor"
    assert definitions.get(f"metrics?cursor={given}&offset=0").status == 200


def asked(query: str) -> Request:
    return Request(APIRequestFactory().get(f"/?{query}"))


def pages(found: QuerySet, limit: int) -> list[int]:
    rows, told = page(asked(f"limit={limit}"), found)
    keys = [row.pk for row in rows]
    while told["next_cursor"] is not None:
        rows, told = page(asked(f"limit={limit}&cursor={told['next_cursor']}"), found)
        keys += [row.pk for row in rows]
    return keys


@pytest.mark.parametrize(
    "order",
    [("pk",), ("-pk",), ("status", "pk"), ("-status", "created_at"), ("finished_at",), ("-finished_at", "status")],
)
def test_every_order_is_complete_with_equal_and_null_values(site: None, order: tuple[str, ...]):
    chance, now = random.Random(1), timezone.now()
    for _ in range(40):
        job = ExportJob(owner="x", question={}, format="csv", status=chance.choice(["done", "failed"]))
        job.created_at = now.replace(microsecond=chance.randrange(3))
        job.finished_at = chance.choice([None, now, now.replace(microsecond=5)])
        job.save()
    found = ExportJob.objects.order_by(*order)
    keys = pages(found, 7)
    assert sorted(keys) == sorted(job.pk for job in found) and len(keys) == 40
    whole = list(ExportJob.objects.order_by(*order))
    by_key = {job.pk: job for job in whole}
    columns = [name.lstrip("-") for name in order if name.lstrip("-") != "pk"]
    for column in columns[:1]:
        assert [getattr(by_key[key], column) for key in keys] == [getattr(job, column) for job in whole]


def test_distant_page_needs_as_many_statements_as_the_first(site: None, django_assert_num_queries):
    Device.objects.bulk_create(Device(device_id=f"d{number:04d}") for number in range(1000))
    found = Device.objects.order_by("device_id")
    _, told = page(asked("limit=10&offset=900"), found)
    with django_assert_num_queries(2):
        rows, _ = page(asked(f"limit=10&cursor={told['next_cursor']}"), found)
    assert [row.device_id for row in rows] == [f"d{number:04d}" for number in range(910, 920)]
    with pytest.raises(ValidationError):
        page(asked("limit=0"), found)
