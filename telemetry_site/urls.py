"""Every address of the site."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from telemetry_site import health

admin.site.site_header = "Telemetry administration"
admin.site.site_title = "Telemetry"
admin.site.index_title = "Administration"

urlpatterns = [
    path("favicon.ico", RedirectView.as_view(url=static("dashboard/mark.svg"))),
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
