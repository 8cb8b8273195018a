"""The OpenAPI schema and its Swagger UI and ReDoc pages, with all files served by this site."""

from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import HttpRequest, HttpResponse
from django.templatetags.static import static
from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
    OpenApiYamlRenderer2,
)
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from telemetry_site.middleware.csp import POLICY

REDOC_STYLES = (
    "style-src 'self'"
    " 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"  # an empty style element that the script fills
    " 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"  # scroll bars
)
REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
CANONICAL_PREFIX, SHORT_PREFIX = "/api/v1/telemetry/", "/api/v1/"


class SchemaEndpoint(APIView):
    """Base class: public unless TELEMETRY_PUBLIC_SCHEMA is off, since tools read the schema before they have a key."""

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [] if settings.PUBLIC_SCHEMA else super().get_authenticators()

    def get_permissions(self) -> list[BasePermission]:
        return [] if settings.PUBLIC_SCHEMA else [IsAuthenticated()]


class SchemaView(SchemaEndpoint):
    """The OpenAPI schema as JSON or YAML, by Accept header or `?format=`."""

    content_negotiation_class = DefaultContentNegotiation
    renderer_classes = [OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer2, OpenApiYamlRenderer]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        renderer = request.accepted_renderer
        return HttpResponse(_rendered_schema(renderer.format), content_type=f"{renderer.media_type}; charset=utf-8")


@cache
def _rendered_schema(format_name: str) -> str | bytes:
    """Return the rendered schema; cached, since it depends only on the code."""
    renderer: BaseRenderer = OpenApiYamlRenderer() if format_name == "yaml" else OpenApiJsonRenderer()
    return renderer.render(SchemaGenerator().get_schema(request=None, public=True), renderer_context={})


class SwaggerView(SchemaEndpoint, SpectacularSwaggerSplitView):
    template_name = "telemetry_site/swagger.html"


class RedocView(SchemaEndpoint, SpectacularRedocView):
    """ReDoc, with a content security policy for its two inline style sheets and its search worker."""

    template_name = "telemetry_site/redoc.html"

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        response = super().get(request, *args, **kwargs)
        policy = POLICY.replace("style-src 'self'", REDOC_STYLES).replace("worker-src 'self'", "worker-src blob:")
        response.headers["Content-Security-Policy"] = policy
        return response


def redoc_script(request: HttpRequest) -> HttpResponse:
    """Return ReDoc's script with its logo, a URL of another site, replaced by ours."""
    response = HttpResponse(_redoc_source(), content_type="text/javascript")
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


@cache
def _redoc_source() -> bytes:
    path = finders.find("drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js")
    return Path(str(path)).read_bytes().replace(REDOC_LOGO, static("dashboard/mark.svg").encode())


def exclude_short_paths(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Preprocessing hook of drf-spectacular: describe endpoints with two prefixes only once."""
    paths = {path for path, *_ in endpoints}

    def is_short_form(path: str) -> bool:
        return path.startswith(SHORT_PREFIX) and path.replace(SHORT_PREFIX, CANONICAL_PREFIX, 1) in paths

    return [endpoint for endpoint in endpoints if not is_short_form(endpoint[0])]


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """API keys and access tokens in the schema."""

    target_class = "ingest.authentication.ApiKeyAuthentication"
    name = ["apiKey", "bearer"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return [
            {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "An API key."},
            {"type": "http", "scheme": "bearer", "description": "An API key, or an access token (`create_token`)."},
        ]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, Any]]:
        return [{"apiKey": []}, {"bearer": []}]


class OptionalScheme(OpenApiAuthenticationExtension):
    """The schemes of the other endpoints, for one that also answers anonymous callers."""

    target_class = "telemetry_site.health_views.OptionalAuthentication"
    name: list[str] = []

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return []

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, Any]]:
        return [{"apiKey": []}, {"bearer": []}, {"session": []}, {}]


class SessionLoginScheme(SessionScheme):
    """Session cookies in the schema."""

    priority = 1
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        description = "A logged-in user; changes need the CSRF token in `X-CSRFToken`."
        return super().get_security_definition(auto_schema) | {"description": description}
