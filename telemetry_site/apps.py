from django.apps import AppConfig
from django.contrib.admin import apps as admin


class TelemetrySiteConfig(AppConfig):
    name = "telemetry_site"
    default = True


class TelemetryAdminConfig(admin.AdminConfig):
    default_site = "telemetry_site.admin_site.TelemetryAdminSite"
    default = False
