"""The ASGI application of the web process: fast lane, live streams and Django."""

# ruff: noqa: E402 - Django must be set up before modules with models are imported

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")

import django
from django.conf import settings

django.setup(set_prefix=False)

from channels.routing import ProtocolTypeRouter

from dashboard.routing import websockets
from ingest.fast_lane import FastLane
from telemetry_site.django_application import django_application
from telemetry_site.lifespan import Lifespan
from telemetry_site.middleware.concurrency import ConcurrencyLimit
from telemetry_site.middleware.cors import CORS
from telemetry_site.middleware.event_streams import EventStreams
from telemetry_site.middleware.ip_rate_limit import IPRateLimit
from telemetry_site.middleware.request_id import RequestIdMiddleware
from telemetry_site.middleware.revision import RequiredRevision
from telemetry_site.middleware.routing_path import RoutingPath
from telemetry_site.middleware.size_and_timeout import SizeAndTimeoutLimits
from telemetry_site.middleware.websocket_count import WebSocketCount

http_application = FastLane(
    RequestIdMiddleware(
        IPRateLimit(
            EventStreams(RequiredRevision(RoutingPath(SizeAndTimeoutLimits(ConcurrencyLimit(django_application())))))
        )
    )
)
application = ProtocolTypeRouter(
    {
        "http": CORS(http_application, settings.CORS_ORIGINS) if settings.CORS_ORIGINS else http_application,
        "websocket": WebSocketCount(websockets),
        "lifespan": Lifespan(),
    }
)
