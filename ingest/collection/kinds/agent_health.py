"""Operational metrics of an agent: values of its health endpoint by JSONPath."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from ingest.collection.fetch import AUTHENTICATION, fetch_json
from ingest.collection.kinds.kind import Collected, CollectionJob, FieldErrors, Kind, check_url, text_field, url_field
from ingest.collectors.formats.json_paths import check_path, find_values
from ingest.collectors.reading import CollectFailed, Reading
from rest.fields import BooleanField, StrictSerializer, name_field

MAX_PATHS = 200
DEFAULT_PATHS = {
    name: f"$.{name}"
    for name in (
        "version", "cognitive_state", "uptime_seconds", "incident_count_24h", "message_count_24h", "cost_cents_24h",
        "carbon_24h_grams",
    )
}  # fmt: skip
UNITS = {"uptime_seconds": "s", "carbon_24h_grams": "g", "cost_cents_24h": "ct"}


class AgentHealthConfiguration(StrictSerializer):
    url = url_field("Health endpoint, which answers with JSON.")
    paths = serializers.DictField(
        child=name_field(),
        required=False,
        default=dict,
        label="Paths",
        help_text="JSONPath by metric, such as `queue_depth: $.queue.depth`. Empty: version, cognitive_state,"
        " uptime_seconds, incident_count_24h, message_count_24h, cost_cents_24h and carbon_24h_grams at the top level.",
    )
    username = text_field("Username", "User of HTTP basic authentication.")
    verify_tls = BooleanField(default=True, label="Check the certificate", help_text="Reject invalid certificates.")

    def validate_paths(self, paths: dict[str, str]) -> dict[str, str]:
        if len(paths) > MAX_PATHS:
            raise serializers.ValidationError(f"at most {MAX_PATHS} paths are accepted")
        errors = {name: error for name, path in paths.items() if (error := check_path(path))}
        if errors:
            raise serializers.ValidationError(errors)
        return paths


class AgentHealthKind(Kind):
    name, label = "agent_health", "Agent health"
    description = "Operational metrics of an agent, from its health endpoint by JSONPath."
    configuration_class = AgentHealthConfiguration
    secret_names = AUTHENTICATION

    def target(self, configuration: Mapping[str, Any]) -> str:
        return str(configuration["url"])

    def check(self, configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
        return check_url("url", configuration["url"])

    def collect(self, job: CollectionJob) -> Collected:
        paths = job.configuration["paths"]
        try:
            document, fetched = fetch_json(job, job.configuration["url"], verify=job.configuration["verify_tls"])
        except CollectFailed:
            yield Reading("agent_health.up", 0.0)
            raise
        yield Reading("agent_health.up", 1.0)
        yield Reading("agent_health.latency_ms", round(fetched.elapsed_ms, 3), "ms")
        for name, value in find_values(document, paths or DEFAULT_PATHS, optional=not paths):
            yield Reading(name, value, UNITS.get(name))
