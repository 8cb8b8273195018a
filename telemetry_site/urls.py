"""URL configuration of the site."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.templatetags.static import static
from django.urls import include, path, register_converter
from django.views.generic import RedirectView

from ingest.agents.download import agent_checksum, agent_offer, agent_program
from rest.path_converters import IdConverter, NameConverter
from telemetry_site import api_docs, health_views
from telemetry_site.login import LoginView
from telemetry_site.service_capabilities import CapabilitiesView

# Used in the URL configurations that are included below.
register_converter(IdConverter, "id")
register_converter(NameConverter, "name")

handler400 = "telemetry_site.api_errors.bad_request"
handler403 = "telemetry_site.api_errors.forbidden"
handler404 = "telemetry_site.api_errors.not_found"
handler500 = "telemetry_site.api_errors.server_error"

urlpatterns = [
    path("favicon.ico", RedirectView.as_view(url=static("dashboard/mark.svg"))),
    path("health", health_views.HealthView.as_view()),
    path("health/detailed", health_views.DetailedHealthView.as_view()),
    path("livez", health_views.LiveView.as_view()),
    path("readyz", health_views.ReadyView.as_view()),
    path("api/v1/telemetry/", include("ingest.urls")),
    path("api/v1/telemetry/", include("alerts.api.urls")),
    path("api/v1/telemetry/", include("dashboard.streams.urls")),
    path("api/v1/telemetry/", include("dashboard.status_page.api.urls")),
    path("api/v1/telemetry/", include("metrics.api.urls")),
    path("api/v1/telemetry/", include("telemetry_site.bus.urls")),
    path("api/v1/telemetry/service/stats", CapabilitiesView.as_view()),
    path("api/v1/", include("ingest.urls")),
    path("api/v1/", include("alerts.api.urls")),
    path("api/v1/", include("dashboard.streams.urls")),
    path("api/v1/", include("dashboard.status_page.api.urls")),
    path("api/v1/", include("metrics.api.urls")),
    path("api/v1/", include("telemetry_site.bus.urls")),
    path("api/v1/service/stats", CapabilitiesView.as_view()),
    path("", include("ingest.document_urls")),
    path("", include("dashboard.api.document_urls")),
    path("status/", include("dashboard.status_page.public_urls")),
    path("agent.pyz", agent_program, name="agent"),
    path("agent.pyz.sha256", agent_checksum, name="agent-checksum"),
    path("agent.json", agent_offer, name="agent-offer"),
    path("api/schema/", api_docs.SchemaView.as_view(), name="schema"),
    path("api/docs/", api_docs.SwaggerView.as_view(), name="docs"),
    path("api/docs/redoc/", api_docs.RedocView.as_view(), name="redoc"),
    path("api/docs/redoc.js", api_docs.redoc_script, name="redoc-script"),
    path("admin/", admin.site.urls),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("", include("dashboard.urls")),
]
