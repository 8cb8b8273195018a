"""HTTP check: status, latency and content of the answer of a URL."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from ingest.collection.fetch import AUTHENTICATION, fetch
from ingest.collection.kinds.kind import Collected, CollectionJob, FieldErrors, Kind, check_url, text_field, url_field
from ingest.collectors.reading import CollectFailed, Reading
from rest.fields import BooleanField, ChoiceField, StrictSerializer


class HttpConfiguration(StrictSerializer):
    url = url_field("URL that is requested. Redirects are not followed.")
    method = ChoiceField([("GET", "GET"), ("HEAD", "HEAD")], default="GET", label="Method", help_text="HTTP method.")
    expected_status = serializers.IntegerField(
        min_value=100,
        max_value=599,
        default=None,
        allow_null=True,
        label="Expected status",
        help_text="Accepted status; empty accepts 200 to 399.",
    )
    body_contains = text_field("Body contains", "Text that the body must contain.")
    username = text_field("Username", "User of HTTP basic authentication.")
    verify_tls = BooleanField(default=True, label="Check the certificate", help_text="Reject invalid certificates.")


class HttpKind(Kind):
    name, label, description = "http", "HTTP", "Status, latency and content of a URL."
    configuration_class = HttpConfiguration
    secret_names = AUTHENTICATION

    def target(self, configuration: Mapping[str, Any]) -> str:
        return str(configuration["url"])

    def check(self, configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
        if configuration["method"] == "HEAD" and configuration["body_contains"]:
            yield "body_contains", "must be empty for HEAD, whose answers have no body"
        yield from check_url("url", configuration["url"])

    def collect(self, job: CollectionJob) -> Collected:
        wanted = job.configuration
        try:
            fetched = fetch(job, wanted["url"], method=wanted["method"], verify=wanted["verify_tls"])
        except CollectFailed:
            yield Reading("http.up", 0.0)
            raise
        error = _find_error(wanted, fetched.status, fetched.body)
        yield Reading("http.up", 0.0 if error else 1.0)
        yield Reading("http.status", float(fetched.status))
        yield Reading("http.latency_ms", round(fetched.elapsed_ms, 3), "ms")
        yield Reading("http.body_bytes", float(len(fetched.body)), "B")
        if error:
            raise CollectFailed(error)


def _find_error(wanted: Mapping[str, Any], status: int, body: bytes) -> str:
    """Return why an answer is not as expected; an empty text if it is."""
    expected = wanted["expected_status"]
    if expected is None and not 200 <= status < 400:
        return f"HTTP {status} instead of 200 to 399"
    if expected is not None and status != expected:
        return f"HTTP {status} instead of {expected}"
    if wanted["body_contains"] and wanted["body_contains"].encode() not in body:
        return f"the body does not contain {wanted['body_contains']!r}"
    return ""
