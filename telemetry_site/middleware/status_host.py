"""Host names of status pages: requests to them get the page of the host name, and nothing else of the site."""

import re
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port

from dashboard.status_page.answers import host_names

_OWN_HOST = re.compile(r"[0-9.]+|\[.*\]|[^.]+")  # the host name of a status page has a dot and a letter


def select_status_page(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Select the URL configuration of a request by its host name."""

    def middleware(request: HttpRequest) -> HttpResponse:
        host_name, _ = split_domain_port(request.get_host())
        is_own = _OWN_HOST.fullmatch(host_name) or host_name == settings.SITE_HOST
        if not is_own and host_name in host_names():
            request.status_host = host_name  # type: ignore[attr-defined]  # read by the public views
            request.urlconf = "dashboard.status_page.host_urls"
        return get_response(request)

    return middleware
