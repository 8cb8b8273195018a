"""The ASGI application of the web process: fast lane, Django and WebSockets."""

# ruff: noqa: E402 - Django must be set up before modules with models are imported

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from dashboard.routing import websocket_urlpatterns
from ingest.fast_lane import FastLane
from telemetry_site.lifespan import Lifespan
from telemetry_site.middleware.concurrency import ConcurrencyLimit
from telemetry_site.middleware.cors import CORS
from telemetry_site.middleware.ip_rate_limit import IPRateLimit
from telemetry_site.middleware.request_id import RequestIdMiddleware
from telemetry_site.middleware.size_and_timeout import SizeAndTimeoutLimits
from telemetry_site.middleware.websocket_count import WebSocketCount

http_application = FastLane(
    RequestIdMiddleware(IPRateLimit(SizeAndTimeoutLimits(ConcurrencyLimit(ASGIStaticFilesHandler(django_application)))))
)
application = ProtocolTypeRouter(
    {
        "http": CORS(http_application, settings.CORS_ORIGINS) if settings.CORS_ORIGINS else http_application,
        "websocket": WebSocketCount(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
        "lifespan": Lifespan(),
    }
)
