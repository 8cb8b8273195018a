from django.apps import AppConfig
from django.contrib.admin import apps as admin


class TelemetrySiteConfig(AppConfig):
    name = "telemetry_site"
    default = True

    def ready(self) -> None:
        from alerts.rules.as_code.sections import register_section
        from telemetry_site.collector_section import CollectorSection

        register_section(CollectorSection())


class TelemetryAdminConfig(admin.AdminConfig):
    default_site = "telemetry_site.admin_site.TelemetryAdminSite"
    default = False
