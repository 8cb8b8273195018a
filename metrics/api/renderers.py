"""JSON out by msgspec: faster than the standard library's, and times as RFC 3339 in UTC."""

from collections.abc import Mapping
from typing import Any

import msgspec
from rest_framework.renderers import BaseRenderer

_encoder = msgspec.json.Encoder(enc_hook=str)


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        return b"" if data is None else _encoder.encode(data)
