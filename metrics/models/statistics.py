"""What statistics are told from: counts that are kept while points come and go, and what the processes did."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from rest.names import NAME_LENGTH


class Count(models.Model):
    """Stored points per series of a range, in total or per hour. See metrics.storage.merge.point_counts."""

    pk = models.CompositePrimaryKey("shard", "stretch", "hour")
    shard = models.PositiveSmallIntegerField()
    stretch = models.IntegerField(help_text="series id // metrics.storage.merge.point_counts.STRETCH")
    hour = models.IntegerField(help_text="hours since 1970, UTC; 0: all there is")
    points = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0, help_text="payloads of merged blocks; in the row of all there is")
    pending = models.BigIntegerField(
        null=True, help_text="Set where it has to be counted anew: since which transaction"
    )
    payload = models.BinaryField()


class Activity(models.Model):
    """What requests of one kind amounted to in a minute, over all web processes."""

    pk = models.CompositePrimaryKey("minute", "kind")
    minute = models.DateTimeField()
    kind = models.CharField(max_length=10, help_text="ingest, or other for everything else")
    requests = models.BigIntegerField(default=0)
    failures = models.BigIntegerField(default=0, help_text="answers of 500 and above")
    seconds = models.FloatField(default=0.0, help_text="from the request to the beginning of the answer, all together")
    points = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0, help_text="points")
    latencies = ArrayField(models.BigIntegerField(), help_text="requests by metrics.statistics.histogram.LATENCIES")


class Heartbeat(models.Model):
    """When a kind of process was last heard of."""

    name = models.CharField(max_length=NAME_LENGTH, primary_key=True)
    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name
