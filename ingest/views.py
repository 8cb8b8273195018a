"""The doors for those who come without an API key, and the same answers as the fast lane gives."""

from typing import Any

from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.authentication import MayWrite
from ingest.json_endpoints import BODY_LIMIT, DOORS, check_media_type, unpack
from ingest.openapi import describe_batch, describe_bulk, describe_events, describe_single, describe_snapshot
from ingest.pipeline import accept
from ingest.wire.batch import RequestRejected
from rest.permissions import caller


class Unparsed(BaseParser):
    """The body as it is, up to what is too much: the doors read it themselves."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        check_media_type(media_type or "")
        return stream.read(BODY_LIMIT + 1)


class _IngestView(APIView):
    """PRD E1. `door` is single, batch or bulk."""

    permission_classes = [MayWrite]
    parser_classes = [Unparsed]
    door = ""

    def take(self, request: Request, device_id: str) -> Response:
        door = DOORS[self.door]
        if device_id and not caller(request).may_write(device_id):
            raise RequestRejected("this key may not write to this device", 403)
        body: Any = request.data or b""
        if len(body) > BODY_LIMIT:
            raise RequestRejected(f"the body is larger than {BODY_LIMIT} bytes", 413)
        body = unpack(body, request.headers.get("Content-Encoding", ""))
        batch = door.read(body, device_id, caller(request))
        return Response(door.answer(accept(batch, caller(request))))


class PointView(_IngestView):
    door = "single"

    @describe_single
    def post(self, request: Request, device_id: str) -> Response:
        return self.take(request, device_id)


class BatchView(_IngestView):
    door = "batch"

    @describe_batch
    def post(self, request: Request, device_id: str) -> Response:
        return self.take(request, device_id)


class BulkView(_IngestView):
    door = "bulk"

    @describe_bulk
    def post(self, request: Request) -> Response:
        return self.take(request, "")


class SnapshotView(_IngestView):
    door = "snapshot"

    @describe_snapshot
    def post(self, request: Request) -> Response:
        return self.take(request, "")


class EventsView(_IngestView):
    door = "events"

    @describe_events
    def post(self, request: Request) -> Response:
        return self.take(request, "")
