"""`GET /dashboard/agents`: the old dashboard endpoint, which leads to `/telemetry/status`."""

from datetime import UTC, datetime

from django.utils.http import http_date
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from rest.openapi import Tag, operation

SUCCESSOR = "/telemetry/status"
DEPRECATED_SINCE = datetime(2025, 8, 13, tzinfo=UTC)
REMOVED_AT = datetime(2027, 8, 13, tzinfo=UTC)
HEADERS = {
    "Location": SUCCESSOR,
    "Deprecation": f"@{int(DEPRECATED_SINCE.timestamp())}",  # RFC 9745
    "Sunset": http_date(REMOVED_AT.timestamp()),  # RFC 8594
    "Link": f'<{SUCCESSOR}>; rel="successor-version", </api/docs/>; rel="deprecation"; type="text/html"',
}


class OldAgentsView(APIView):
    @operation(
        "get_old_agents",
        "Old address of the status",
        tag=Tag.STATISTICS,
        description=f"Redirects to `{SUCCESSOR}`. The headers `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and `Link`"
        " say since when it is deprecated, when it will be removed and what replaces it.",
        response=None,
        status=307,
        deprecated=True,
    )
    def get(self, request: Request) -> Response:
        return Response(status=status.HTTP_307_TEMPORARY_REDIRECT, headers=HEADERS)
