"""Public addresses of a page: they need TELEMETRY_SITE_URL or a host name, since anybody can send any Host header."""

from django.conf import settings

from dashboard.status_page.models import StatusPage


def page_url(slug: str, host_name: str | None) -> str:
    """Return the address of a page as the settings give it; empty without TELEMETRY_SITE_URL and host name."""
    if host_name:
        is_secure = settings.HTTPS or settings.SITE_URL.startswith("https:")
        return f"{'https' if is_secure else 'http'}://{host_name}/"
    return f"{settings.SITE_URL}/status/{slug}/" if settings.SITE_URL else ""


def may_subscribe(page: StatusPage) -> bool:
    """Return whether messages to subscribers can have links to a page."""
    return bool(page_url(page.slug, page.host_name))
