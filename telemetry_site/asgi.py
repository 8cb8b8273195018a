"""What the web process serves: the fast lane, then Django, and the WebSockets."""

# ruff: noqa: E402 - Django must be set up before anything that has models is imported

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from dashboard.routing import websocket_urlpatterns
from ingest.asgi import FastLane
from telemetry_site.activity import Activity
from telemetry_site.lifespan import Lifespan
from telemetry_site.turns import Turns

application = Activity(
    ProtocolTypeRouter(
        {
            "http": FastLane(Turns(ASGIStaticFilesHandler(django_application))),
            "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
            "lifespan": Lifespan(),
        }
    )
)
