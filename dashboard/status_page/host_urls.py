"""Addresses of a host name that shows a status page: nothing else of the site is there."""

from dashboard.status_page.public_urls import page_patterns

handler404 = "dashboard.status_page.public_views.not_found"
handler500 = "dashboard.status_page.public_views.server_error"
urlpatterns = page_patterns
