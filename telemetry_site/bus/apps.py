from django.apps import AppConfig


class BusConfig(AppConfig):
    name = "telemetry_site.bus"
    label = "bus"
    verbose_name = "Event bus"
