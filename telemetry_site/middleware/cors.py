"""Browsers on pages of other sites: the API answers those origins that TELEMETRY_CORS_ORIGINS names, else none."""

from collections.abc import Awaitable, Sequence

from telemetry_site.middleware.request_id import App, Message, Receive, Scope, Send

PREFIX = "/api/"  # pages are for this site alone
EVERYBODY = "*"
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
# What a page may send, and what it may read of an answer.
SENT = (
    b"authorization, content-type, content-encoding, idempotency-key, if-match, if-none-match, x-api-key, x-request-id"
)
READ = b"content-disposition, etag, idempotent-replayed, link, location, retry-after, x-request-id"
MAX_AGE = b"3600"  # seconds that a browser need not ask again

Headers = list[tuple[bytes, bytes]]


class CORS:
    """ASGI in front of both lanes. Cookies go with a request only from origins that are named."""

    def __init__(self, app: App, origins: Sequence[str]) -> None:
        self.app = app
        self._origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(PREFIX):
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        told = self._told(headers.get(b"origin"))
        if scope["method"] == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers:
            return await self._preflight(told, send)

        def sending(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *told]}
            return send(message)

        await self.app(scope, receive, sending)

    def _told(self, origin: bytes | None) -> Headers:
        if EVERYBODY.encode() in self._origins:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", READ)]
        if origin not in self._origins:
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", READ),
        ]

    async def _preflight(self, told: Headers, send: Send) -> None:
        """Answered for whoever asks: what an origin that is not named is not told, its browser takes for a no."""
        if len(told) > 1:
            told = [
                *told,
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", SENT),
                (b"access-control-max-age", MAX_AGE),
            ]
        await send({"type": "http.response.start", "status": 204, "headers": told})
        await send({"type": "http.response.body", "body": b""})
