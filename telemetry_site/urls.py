"""Every address of the site."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path

from telemetry_site import health

urlpatterns = [
    path("health", health.health),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("api/v1/telemetry/", include("ingest.urls")),
    path("api/v1/telemetry/", include("metrics.api.urls")),
    path("api/v1/", include("ingest.urls")),
    path("api/v1/", include("metrics.api.urls")),
    path("admin/", admin.site.urls),
    path("login/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("", include("dashboard.urls")),
]
