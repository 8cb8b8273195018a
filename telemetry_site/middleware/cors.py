"""CORS headers of the API for the origins in TELEMETRY_CORS_ORIGINS."""

from collections.abc import Awaitable, Sequence

from telemetry_site.middleware.request_id import App, Message, Receive, Scope, Send

PREFIX = "/api/"  # pages get no CORS headers
ANY_ORIGIN = "*"
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
# Request headers that a page may send, and response headers that it may read.
ALLOWED_HEADERS = (
    b"authorization, content-type, content-encoding, idempotency-key, if-match, if-none-match, telemetry-min-revision,"
    b" x-api-key, x-request-id"
)
EXPOSED_HEADERS = (
    b"content-disposition, etag, idempotent-replayed, link, location, retry-after, telemetry-revision, x-request-id"
)
MAX_AGE = b"3600"  # seconds that a browser caches a preflight response

Headers = list[tuple[bytes, bytes]]


class CORS:
    """ASGI middleware in front of the fast lane and Django. Only named origins may send cookies."""

    def __init__(self, app: App, origins: Sequence[str]) -> None:
        self.app = app
        self._origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(PREFIX):
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        cors_headers = self._headers_for(headers.get(b"origin"))
        if scope["method"] == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers:
            return await self._preflight(cors_headers, send)

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *cors_headers]}
            return send(message)

        await self.app(scope, receive, send_with_headers)

    def _headers_for(self, origin: bytes | None) -> Headers:
        if ANY_ORIGIN.encode() in self._origins:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED_HEADERS)]
        if origin not in self._origins:
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", EXPOSED_HEADERS),
        ]

    async def _preflight(self, cors_headers: Headers, send: Send) -> None:
        """Answer a preflight request; a browser takes missing headers for a refusal."""
        if len(cors_headers) > 1:
            cors_headers = [
                *cors_headers,
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", ALLOWED_HEADERS),
                (b"access-control-max-age", MAX_AGE),
            ]
        await send({"type": "http.response.start", "status": 204, "headers": cors_headers})
        await send({"type": "http.response.body", "body": b""})
