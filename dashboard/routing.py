"""WebSocket routes."""

from django.urls import path

from dashboard.consumers import LiveConsumer
from dashboard.live_subscription import LIVE_PATH

websocket_urlpatterns = [path(LIVE_PATH, LiveConsumer.as_asgi())]
