"""Models of statistics: counts of stored points, request statistics and heartbeats."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from rest.names import NAME_LENGTH


class Count(models.Model):
    """Stored points per series of a range, in total or per hour. See metrics.storage.merge.point_counts."""

    pk = models.CompositePrimaryKey("shard", "stretch", "hour")
    shard = models.PositiveSmallIntegerField()
    stretch = models.IntegerField(help_text="series id // metrics.storage.merge.point_counts.SERIES_PER_RANGE")
    hour = models.IntegerField(help_text="hours since 1970, UTC; 0: all time")
    points = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0, help_text="payloads of merged blocks, in the all-time row")
    pending = models.BigIntegerField(
        null=True, help_text="Set while a rebuild is due: the transaction that requested it"
    )
    payload = models.BinaryField()


class Activity(models.Model):
    """Request statistics of one kind of request per minute, over all web processes."""

    pk = models.CompositePrimaryKey("minute", "kind")
    minute = models.DateTimeField()
    kind = models.CharField(max_length=10, help_text="ingest or other")
    requests = models.BigIntegerField(default=0)
    failures = models.BigIntegerField(default=0, help_text="responses with status 500 or above")
    seconds = models.FloatField(default=0.0, help_text="from the request to the start of the response, in total")
    points = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0, help_text="points")
    latencies = ArrayField(models.BigIntegerField(), help_text="requests by metrics.statistics.histogram.LATENCIES")


class Heartbeat(models.Model):
    """The last heartbeat of a kind of process."""

    name = models.CharField(max_length=NAME_LENGTH, primary_key=True)
    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name
