"""Series of one metric are numbered side by side, whoever makes them and in whatever order they come."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from metrics.models import Device, Series
from metrics.storage.format.codec import Kind
from metrics.storage.format.layout import SERIES_PER_BUCKET, bucket_of
from metrics.storage.series_registry import SeriesRegistry

METRICS = ("cpu", "memory", "door")


def seen(devices, metrics=METRICS, kind=Kind.NUMERIC):
    catalogue = SeriesRegistry()
    catalogue.make((f"d{number:04d}", metric, kind) for number in devices for metric in metrics)
    return catalogue


def numbers(metric):
    return list(Series.objects.filter(metric_name=metric).order_by("id").values_list("id", flat=True))


def test_a_fleet_s_metric_has_buckets_of_its_own(site):
    for first in range(0, 800, 50):
        seen(range(first, first + 50))
    for metric in METRICS:
        buckets = [bucket_of(number) for number in numbers(metric)]
        full = [bucket for bucket in set(buckets) if buckets.count(bucket) == SERIES_PER_BUCKET]
        assert len(full) == 2 and len(set(buckets)) <= 6
        others = Series.objects.exclude(metric_name=metric).values_list("id", flat=True)
        assert not set(full) & {bucket_of(number) for number in others}


def test_rare_metrics_share_a_bucket(site):
    seen([1], [f"metric {number}" for number in range(60)])
    assert len({bucket_of(number) for number in Series.objects.values_list("id", flat=True)}) <= 3


def test_what_is_known_keeps_its_number(site):
    seen(range(3))
    before = {metric: numbers(metric) for metric in METRICS}
    seen(range(3))
    assert {metric: numbers(metric) for metric in METRICS} == before
    seen(range(3), kind=Kind.STRING)
    assert all(len(numbers(metric)) == 6 for metric in METRICS)


def test_a_series_that_was_inserted_without_a_number_is_in_nobody_s_lane(site):
    seen(range(2))
    device = Device.objects.create(device_id="by hand")
    made = [Series.objects.create(device=device, metric_name=f"own {number}", kind=0).pk for number in range(20)]
    seen(range(2, 40))
    assert Series.objects.count() == 20 + 40 * len(METRICS) and len(set(made)) == 20


@pytest.mark.django_db(transaction=True)
def test_many_that_make_the_same_series_at_once_agree(site):
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: seen(range(60)), range(4)))
    slots = [("d0007", METRICS), ("d0033", METRICS)]
    assert len({tuple(one.series[one.slots(slots)].tolist()) for one in made}) == 1
    assert Series.objects.count() == 60 * len(METRICS)
