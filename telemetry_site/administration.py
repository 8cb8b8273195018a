"""The administration: its front page in order of what it is for, and in the site's words."""

from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import URLPattern, URLResolver, path, reverse

# What stands together on the front page, and under which name. What is not named here stands at its app's.
SECTIONS = {
    "Devices and metrics": {
        "metrics.Device": "Devices",
        "metrics.DeviceGroup": "Device groups",
        "metrics.MetricDefinition": "Metric definitions",
        "metrics.Series": "Series",
    },
    "Alerts": {
        "alerts.Rule": "Alert rules",
        "alerts.Alert": "Alerts",
        "alerts.Incident": "Incidents",
        "alerts.Silence": "Silences",
        "alerts.Channel": "Channels",
        "alerts.Route": "Routes",
        "alerts.Delivery": "Deliveries",
    },
    "People and keys": {"auth.User": "People", "ingest.ApiKey": "API keys"},
    "What happened": {
        "metrics.AuditEntry": "Audit",
        "ingest.Rejected": "Rejected points",
        "metrics.ExportJob": "Exports",
        "metrics.DamagedBlock": "Damaged blocks",
    },
}
JOURNAL = "What happened"  # the section in which the journal stands, which has no rows to be edited


class Administration(AdminSite):
    site_header = "Telemetry administration"
    site_title = "Telemetry"
    index_title = "Administration"

    def get_urls(self) -> list[URLResolver | URLPattern]:
        from metrics.admin.storage import journal

        return [path("journal/", self.admin_view(journal), name="journal"), *super().get_urls()]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        found = super().get_app_list(request, app_label)
        if app_label is not None or not found:
            return found
        left = {model["model"]._meta.label: model for app in found for model in app["models"]}
        sections = [
            self._section(name, [(left.pop(label, None), title) for label, title in models.items()])
            for name, models in SECTIONS.items()
        ]
        for app in found:
            app["models"] = [model for model in app["models"] if model["model"]._meta.label in left]
        return [section for section in (*sections, *found) if section["models"]]

    def _section(self, name: str, models: list[tuple[Any, str]]) -> dict[str, Any]:
        shown = [model | {"name": title} for model, title in models if model is not None]
        if name == JOURNAL:
            address = reverse("admin:journal")
            entry = {
                "name": "Journal",
                "object_name": "Journal",
                "admin_url": address,
                "add_url": None,
                "view_only": True,
                "perms": {"view": True},
                "model": None,
            }
            shown.insert(1, entry)
        label = name.lower().replace(" ", "-")
        return {
            "name": name,
            "app_label": label,
            "app_url": reverse("admin:index"),
            "has_module_perms": True,
            "models": shown,
        }
