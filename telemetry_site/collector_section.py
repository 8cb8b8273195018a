"""The section `collectors` of files that `manage.py apply` takes: alerts and ingest do not know each other."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import models

from alerts.rules.as_code.secrets import MissingSecret, escape, substitute
from alerts.rules.as_code.sections import FileSection
from ingest.collection import lifecycle
from ingest.collection.models import Collector


class CollectorSection(FileSection):
    """Collectors. Secrets are an object of texts, each with placeholders for environment variables."""

    name, word, model = "collectors", "collector", Collector
    fields = lifecycle.FIELDS
    required = frozenset({"name", "kind", "device_id"})
    always = required
    secrets = frozenset({"secrets"})

    def field(self, name: str) -> Any:
        return models.JSONField(default=dict) if name in self.secrets else super().field(name)

    def read_secret(self, value: Any, environment: Mapping[str, str]) -> Any:
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise MissingSecret("texts by name are accepted, such as bearer_token: ${SHOP_TOKEN}")
        return {name: substitute(text, environment) for name, text in value.items()}

    def write_secret(self, value: Any, placeholder: str) -> Any:
        start = placeholder.removesuffix("SECRETS}")
        return {name: f"{start}{name.upper()}}}" if placeholder else escape(text) for name, text in value.items()}

    def complete(self, row: Collector) -> None:
        lifecycle.complete_configuration(row)

    def validate(self, row: Collector) -> None:
        lifecycle.check_collector(row)

    def create(self, row: Collector, by: str) -> None:
        lifecycle.create_collector(self.values_of(row, self.fields), by)

    def change(self, row: Collector, fields: Iterable[str], by: str) -> None:
        values = self.values_of(row, fields)
        if "secrets" in values:
            stored = Collector.objects.get(pk=row.pk)
            values["secrets"] = dict.fromkeys(stored.secret_names, "") | values["secrets"]
        lifecycle.change_collector(row, values)
