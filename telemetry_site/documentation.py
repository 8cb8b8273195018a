"""The description of the API, and the pages that show it: all of it from this site, none of it anybody's data."""

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
    " 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"  # empty, filled rule by rule from the script
    " 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"  # its scroll bars
)
REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
CANONICAL, SHORT = "/api/v1/telemetry/", "/api/v1/"


class _Public(APIView):
    """Tools read the description before they have a key; TELEMETRY_PUBLIC_SCHEMA=off asks who they are."""

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [] if settings.PUBLIC_SCHEMA else super().get_authenticators()

    def get_permissions(self) -> list[BasePermission]:
        return [] if settings.PUBLIC_SCHEMA else [IsAuthenticated()]


class SchemaView(_Public):
    """OpenAPI as JSON or YAML, by Accept or `?format=`."""

    content_negotiation_class = DefaultContentNegotiation
    renderer_classes = [OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer2, OpenApiYamlRenderer]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        kind = request.accepted_renderer
        return HttpResponse(_written(kind.format), content_type=f"{kind.media_type}; charset=utf-8")


@cache
def _written(form: str) -> str | bytes:
    """Once in a process: it takes a while, and changes with the code alone."""
    renderer: BaseRenderer = OpenApiYamlRenderer() if form == "yaml" else OpenApiJsonRenderer()
    return renderer.render(SchemaGenerator().get_schema(request=None, public=True), renderer_context={})


class SwaggerView(_Public, SpectacularSwaggerSplitView):
    template_name = "telemetry_site/swagger.html"


class RedocView(_Public, SpectacularRedocView):
    """ReDoc writes two style sheets of its own into the page, and searches in a worker that it makes."""

    template_name = "telemetry_site/redoc.html"

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        answer = super().get(request, *args, **kwargs)
        policy = POLICY.replace("style-src 'self'", REDOC_STYLES) + "; worker-src blob:"
        answer.headers["Content-Security-Policy"] = policy
        return answer


def redoc_script(request: HttpRequest) -> HttpResponse:
    """ReDoc itself. Its one picture lies on another site: ours stands in its place."""
    answer = HttpResponse(_redoc(), content_type="text/javascript")
    answer.headers["Cache-Control"] = "public, max-age=3600"
    return answer


@cache
def _redoc() -> bytes:
    found = finders.find("drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js")
    return Path(str(found)).read_bytes().replace(REDOC_LOGO, static("dashboard/mark.svg").encode())


def only_canonical(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """drf-spectacular's hook at the beginning: what answers under the short prefix too is described once."""
    paths = {path for path, *_ in endpoints}

    def is_short_form(path: str) -> bool:
        return path.startswith(SHORT) and path.replace(SHORT, CANONICAL, 1) in paths

    return [endpoint for endpoint in endpoints if not is_short_form(endpoint[0])]


class KeyScheme(OpenApiAuthenticationExtension):
    target_class = "ingest.authentication.ApiKeyAuthentication"
    name = ["apiKey", "bearer"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return [
            {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "An API key."},
            {"type": "http", "scheme": "bearer", "description": "An API key, or an access token (`create_token`)."},
        ]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, Any]]:
        return [{"apiKey": []}, {"bearer": []}]


class PersonScheme(SessionScheme):
    priority = 1
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        told = "Somebody who is logged in; changes need the CSRF token in `X-CSRFToken`."
        return super().get_security_definition(auto_schema) | {"description": told}
