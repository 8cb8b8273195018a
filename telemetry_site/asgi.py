"""What the web process serves: the fast lane, then Django, and the WebSockets."""

# ruff: noqa: E402 - Django must be set up before anything that has models is imported

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application

# What a request asks the database ends within its time. Commands and tasks, such as migrations, may take longer.
_libpq = settings.DATABASES["default"]["OPTIONS"]
_libpq["options"] = f"{_libpq.get('options', '')} -c statement_timeout=30s".strip()

django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from dashboard.routing import websocket_urlpatterns
from ingest.fast_lane import FastLane
from telemetry_site.activity import Sockets
from telemetry_site.lifespan import Lifespan
from telemetry_site.middleware.concurrency import Turns
from telemetry_site.middleware.cors import CORS
from telemetry_site.middleware.ip_rate_limit import AddressLimit
from telemetry_site.middleware.request_id import Requests
from telemetry_site.middleware.size_and_timeout import Caps

lanes = FastLane(Requests(AddressLimit(Caps(Turns(ASGIStaticFilesHandler(django_application))))))
application = ProtocolTypeRouter(
    {
        "http": CORS(lanes, settings.CORS_ORIGINS) if settings.CORS_ORIGINS else lanes,
        "websocket": Sockets(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
        "lifespan": Lifespan(),
    }
)
