"""Every address of the site."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from telemetry_site import documentation, health
from telemetry_site.capabilities import CapabilitiesView
from telemetry_site.login import LoginView

handler400 = "telemetry_site.api_errors.bad_request"
handler403 = "telemetry_site.api_errors.forbidden"
handler404 = "telemetry_site.api_errors.not_found"
handler500 = "telemetry_site.api_errors.server_error"

urlpatterns = [
    path("favicon.ico", RedirectView.as_view(url=static("dashboard/mark.svg"))),
    path("health", health.HealthView.as_view()),
    path("health/detailed", health.DetailedHealthView.as_view()),
    path("livez", health.LiveView.as_view()),
    path("readyz", health.ReadyView.as_view()),
    path("api/v1/telemetry/", include("ingest.urls")),
    path("api/v1/telemetry/", include("alerts.api.urls")),
    path("api/v1/telemetry/", include("metrics.api.urls")),
    path("api/v1/telemetry/service/stats", CapabilitiesView.as_view()),
    path("api/v1/", include("ingest.urls")),
    path("api/v1/", include("alerts.api.urls")),
    path("api/v1/", include("metrics.api.urls")),
    path("api/v1/service/stats", CapabilitiesView.as_view()),
    path("", include("ingest.document_urls")),
    path("", include("dashboard.api.document_urls")),
    path("api/schema/", documentation.SchemaView.as_view(), name="schema"),
    path("api/docs/", documentation.SwaggerView.as_view(), name="docs"),
    path("api/docs/redoc/", documentation.RedocView.as_view(), name="redoc"),
    path("api/docs/redoc.js", documentation.redoc_script, name="redoc-script"),
    path("admin/", admin.site.urls),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("", include("dashboard.urls")),
]
