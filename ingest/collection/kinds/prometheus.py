"""Scrape of a Prometheus or OpenMetrics endpoint."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from ingest.collection.fetch import AUTHENTICATION, fetch, require_ok
from ingest.collection.kinds.kind import Collected, CollectionJob, FieldErrors, Kind, check_url, text_field, url_field
from ingest.collectors.formats.prometheus_text import ACCEPT, parse_samples
from rest.fields import BooleanField, StrictSerializer, name_field

MAX_PATTERNS = 200


class PrometheusConfiguration(StrictSerializer):
    url = url_field("URL of the metrics, such as http://host:9100/metrics.")
    metrics = serializers.ListField(
        child=name_field(),
        max_length=MAX_PATTERNS,
        default=list,
        label="Metrics",
        help_text="Names that are stored, with * for any text; empty: all.",
    )
    ignore_labels = serializers.ListField(
        child=name_field(),
        max_length=MAX_PATTERNS,
        default=list,
        label="Ignored labels",
        help_text="Labels that are left out of the metric names.",
    )
    device_label = text_field("Device label", "Label with the device of a sample; empty: the device of the collector.")
    username = text_field("Username", "User of HTTP basic authentication.")
    verify_tls = BooleanField(default=True, label="Check the certificate", help_text="Reject invalid certificates.")


class PrometheusKind(Kind):
    name, label = "prometheus", "Prometheus"
    description = "Metrics of an endpoint in the text format of Prometheus or OpenMetrics."
    configuration_class = PrometheusConfiguration
    secret_names = AUTHENTICATION

    def target(self, configuration: Mapping[str, Any]) -> str:
        return str(configuration["url"])

    def check(self, configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
        return check_url("url", configuration["url"])

    def collect(self, job: CollectionJob) -> Collected:
        wanted = job.configuration
        fetched = fetch(job, wanted["url"], accept=ACCEPT, verify=wanted["verify_tls"])
        require_ok(fetched)
        return parse_samples(
            fetched.body,
            fetched.headers.get("Content-Type", ""),
            patterns=wanted["metrics"],
            ignore_labels=frozenset(wanted["ignore_labels"]),
            device_label=wanted["device_label"],
        )
