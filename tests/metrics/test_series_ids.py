"""Series of one metric get neighbouring ids, whichever process creates them and in whatever order."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from metrics.models import Device, Series
from metrics.storage.format.codec import Kind
from metrics.storage.format.layout import SERIES_PER_BUCKET, bucket_of
from metrics.storage.series_registry import SeriesRegistry

METRICS = ("cpu", "memory", "door")


def create_series(devices, metrics=METRICS, kind=Kind.NUMERIC):
    registry = SeriesRegistry()
    registry.create_missing((f"d{number:04d}", metric, kind) for number in devices for metric in metrics)
    return registry


def series_ids(metric):
    return list(Series.objects.filter(metric_name=metric).order_by("id").values_list("id", flat=True))


@pytest.mark.slow
def test_metric_of_a_fleet_fills_its_own_buckets(site):
    for first in range(0, 800, 50):
        create_series(range(first, first + 50))
    for metric in METRICS:
        buckets = [bucket_of(number) for number in series_ids(metric)]
        full = [bucket for bucket in set(buckets) if buckets.count(bucket) == SERIES_PER_BUCKET]
        assert len(full) == 2 and len(set(buckets)) <= 6
        other_ids = Series.objects.exclude(metric_name=metric).values_list("id", flat=True)
        assert not set(full) & {bucket_of(number) for number in other_ids}


def test_rare_metrics_share_a_bucket(site):
    create_series([1], [f"metric {number}" for number in range(60)])
    assert len({bucket_of(number) for number in Series.objects.values_list("id", flat=True)}) <= 3


def test_existing_series_keep_their_ids(site):
    create_series(range(3))
    ids = {metric: series_ids(metric) for metric in METRICS}
    create_series(range(3))
    assert {metric: series_ids(metric) for metric in METRICS} == ids
    create_series(range(3), kind=Kind.STRING)
    assert all(len(series_ids(metric)) == 6 for metric in METRICS)


def test_series_inserted_without_an_id_gets_one_outside_every_range(site):
    create_series(range(2))
    device = Device.objects.create(device_id="by hand")
    inserted = [Series.objects.create(device=device, metric_name=f"own {number}", kind=0).pk for number in range(20)]
    create_series(range(2, 40))
    assert Series.objects.count() == 20 + 40 * len(METRICS) and len(set(inserted)) == 20


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_concurrent_creation_of_the_same_series_yields_the_same_ids(site):
    with ThreadPoolExecutor(4) as pool:
        registries = list(pool.map(lambda _: create_series(range(60)), range(4)))
    devices = [("d0007", METRICS), ("d0033", METRICS)]
    assert len({tuple(registry.series[registry.find_rows(devices)].tolist()) for registry in registries}) == 1
    assert Series.objects.count() == 60 * len(METRICS)
