"""Adoption and rollout of versions, from a metric that devices report."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rest_framework import serializers

from ingest.collection.kinds.kind import Collected, CollectionJob, Kind, text_field
from ingest.collectors.formats.rollout import summarize
from ingest.collectors.reading import CollectFailed
from metrics.query.latest import read_latest_points
from rest.fields import StrictSerializer, name_field

MAX_LOOKBACK_HOURS = 24 * 90


class VersionsConfiguration(StrictSerializer):
    metric = name_field(default="agent.version", label="Metric", help_text="Metric with the version of a device.")
    group = text_field("Group", "Device group; empty: all devices.")
    target_version = text_field("Target version", "Version that is rolled out; empty: the highest one.")
    lookback_hours = serializers.IntegerField(
        min_value=1,
        max_value=MAX_LOOKBACK_HOURS,
        default=24,
        label="Lookback (hours)",
        help_text="Devices that have not reported for longer do not count.",
    )


class VersionsKind(Kind):
    name, label = "versions", "Versions"
    description = "How many devices report which version, and the progress of a rollout."
    configuration_class = VersionsConfiguration

    def target(self, configuration: Mapping[str, Any]) -> str:
        return f"{configuration['metric']} of {configuration['group'] or 'all devices'}"

    def collect(self, job: CollectionJob) -> Collected:
        wanted = job.configuration
        groups = [wanted["group"]] if wanted["group"] else None
        points = read_latest_points(None, [wanted["metric"]], timedelta(hours=wanted["lookback_hours"]), groups=groups)
        versions = {point.device_id: str(point.value) for point in points.points}
        if not versions:
            raise CollectFailed(
                f"no device has reported {wanted['metric']} in the last {wanted['lookback_hours']} hours"
            )
        yield from summarize(versions, wanted["target_version"])
