"""Deployments: the state of an endpoint that is polled, or reported by a webhook, as annotations of charts."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from ingest.collection.fetch import AUTHENTICATION, fetch_json
from ingest.collection.kinds.kind import (
    Collected,
    CollectionJob,
    FieldErrors,
    Kind,
    check_url,
    text_field,
    validate_url,
)
from ingest.collectors.formats.deployment_state import deployment_readings, read_deployments
from ingest.collectors.formats.json_paths import check_path
from ingest.collectors.reading import Deployment, Reading
from metrics.storage.connection import read_connection
from rest.fields import BooleanField, StrictSerializer
from rest.outgoing.http_connection import MAX_URL_LENGTH

WEBHOOK_TOKEN = "webhook_token"  # noqa: S105 - the name of the secret
_NEWEST = (
    "SELECT deployment_id, version, state, at FROM ingest_annotation WHERE device_id = %s ORDER BY at DESC LIMIT 1"
)


class DeploymentsConfiguration(StrictSerializer):
    url = serializers.CharField(
        max_length=MAX_URL_LENGTH,
        allow_blank=True,
        default="",
        label="URL",
        help_text="Endpoint with the deployments as JSON; empty: they are reported by webhook.",
    )
    path = text_field("Path", "JSONPath of the deployment or the list of deployments; $ is the whole document.")
    username = text_field("Username", "User of HTTP basic authentication.")
    verify_tls = BooleanField(default=True, label="Check the certificate", help_text="Reject invalid certificates.")

    def validate_url(self, url: str) -> str:
        if url:
            validate_url(url)
        return url

    def validate_path(self, path: str) -> str:
        if error := check_path(path or "$"):
            raise serializers.ValidationError(error)
        return path or "$"


class DeploymentsKind(Kind):
    name, label = "deployments", "Deployments"
    description = "State of deployments, from an endpoint or a webhook; charts of the device show it."
    configuration_class = DeploymentsConfiguration
    secret_names = AUTHENTICATION | {WEBHOOK_TOKEN: "Token that senders of the webhook need."}

    def target(self, configuration: Mapping[str, Any]) -> str:
        return configuration["url"] or "webhook"

    def check(self, configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
        if configuration["url"]:
            yield from check_url("url", configuration["url"])
        elif WEBHOOK_TOKEN not in secrets:
            yield "url", "must be set, or the secret webhook_token for a webhook"

    def collect(self, job: CollectionJob) -> Collected:
        url = job.configuration["url"]
        if not url:
            yield from _reported(job.device_id)
            return
        document, _ = fetch_json(job, url, verify=job.configuration["verify_tls"])
        deployments = read_deployments(document, job.configuration["path"])
        yield Reading("deployment.count", float(len(deployments)))
        yield from deployment_readings(deployments)
        yield from deployments


def _reported(device_id: str) -> Collected:
    """Yield the newest state that was reported, so that it stays the latest value."""
    with read_connection() as connection:
        row = connection.execute(_NEWEST, (device_id,)).fetchone()
    yield Reading("deployment.count", 0.0 if row is None else 1.0)
    if row is not None:
        yield from deployment_readings([Deployment(*row)])
