"""What the web process serves: the fast lane, then Django, and the WebSockets."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")

from django.core.asgi import get_asgi_application  # noqa: E402 - settings first

django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402

from dashboard.routing import websocket_urlpatterns  # noqa: E402
from ingest.asgi import FastLane  # noqa: E402
from telemetry_site.lifespan import Lifespan  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": FastLane(ASGIStaticFilesHandler(django_application)),
        "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
        "lifespan": Lifespan(),
    }
)
