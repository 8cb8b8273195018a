"""The content security policy: scripts, styles and connections only from this site, none inline."""

from django.http import HttpRequest, HttpResponse

from telemetry_site.middleware.base import ResponseMiddleware

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


class ContentSecurityPolicy(ResponseMiddleware):
    """Sets the Content-Security-Policy header. Django 5.2 has no such middleware; django-csp is synchronous only."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response
