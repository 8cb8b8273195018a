"""Django's admin with an index page in sections."""

from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import URLPattern, URLResolver, path, reverse

# Models and their titles by section of the index page. Other models are listed under their app.
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
        "alerts.AnomalyFeedback": "Anomaly feedback",
    },
    "Status pages": {
        "dashboard.StatusPage": "Status pages",
        "dashboard.StatusComponent": "Components",
        "dashboard.StatusIncident": "Incidents and maintenance",
        "dashboard.IncidentTemplate": "Templates",
        "dashboard.StatusSubscriber": "Subscribers",
        "dashboard.StatusDelivery": "Messages",
    },
    "Collectors": {
        "ingest.Collector": "Collectors",
        "ingest.Collection": "Collections",
        "ingest.Annotation": "Deployments",
    },
    "People and keys": {
        "auth.User": "People",
        "ingest.ApiKey": "API keys",
        "ingest.AgentConfiguration": "Agent configurations",
    },
    "History": {
        "metrics.AuditEntry": "Audit",
        "ingest.Rejected": "Rejected points",
        "metrics.ExportJob": "Exports",
        "metrics.DamagedBlock": "Damaged blocks",
    },
}
JOURNAL_SECTION = "History"  # the section with the link to the journal, which is not a model


class TelemetryAdminSite(AdminSite):
    """The admin with sections and a page for the journal."""

    site_header = "Telemetry administration"
    site_title = "Telemetry"
    index_title = "Administration"

    def get_urls(self) -> list[URLResolver | URLPattern]:
        from metrics.admin.storage import journal

        return [path("journal/", self.admin_view(journal), name="journal"), *super().get_urls()]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        apps = super().get_app_list(request, app_label)
        if app_label is not None or not apps:
            return apps
        models_by_label = {model["model"]._meta.label: model for app in apps for model in app["models"]}
        sections = [
            self._section(name, [(models_by_label.pop(label, None), title) for label, title in models.items()])
            for name, models in SECTIONS.items()
        ]
        for app in apps:
            app["models"] = [model for model in app["models"] if model["model"]._meta.label in models_by_label]
        return [section for section in (*sections, *apps) if section["models"]]

    def _section(self, name: str, models: list[tuple[Any, str]]) -> dict[str, Any]:
        entries = [model | {"name": title} for model, title in models if model is not None]
        if name == JOURNAL_SECTION:
            entry = {
                "name": "Journal",
                "object_name": "Journal",
                "admin_url": reverse("admin:journal"),
                "add_url": None,
                "view_only": True,
                "perms": {"view": True},
                "model": None,
            }
            entries.insert(1, entry)
        label = name.lower().replace(" ", "-")
        return {
            "name": name,
            "app_label": label,
            "app_url": reverse("admin:index"),
            "has_module_perms": True,
            "models": entries,
        }
