"""The content security policy: every script, style and connection from this site alone, none of them inline."""

from django.http import HttpRequest, HttpResponse

from telemetry_site.middleware.base import BeforeItLeaves

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


class ContentSecurityPolicy(BeforeItLeaves):
    """Django 5.2 has no middleware for this, and the third-party one is synchronous only."""

    def leaving(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response
