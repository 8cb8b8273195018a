"""The ingestion endpoints as REST views, for requests that do not take the fast lane. Both give the same responses."""

from typing import Any

from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.authentication import MayWrite
from ingest.json_endpoints import ENDPOINTS, MAX_BODY_SIZE, body_too_large, check_media_type, decompress_body
from ingest.openapi import describe_batch, describe_bulk, describe_events, describe_single, describe_snapshot
from ingest.pipeline import NOT_ALLOWED, accept
from ingest.wire.batch import RequestRejected
from rest.permissions import caller


class RawBodyParser(BaseParser):
    """Returns the body as it is, up to just over the size limit; the endpoints decode it themselves."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        check_media_type(media_type or "")
        return stream.read(MAX_BODY_SIZE + 1)


class _IngestView(APIView):
    """PRD E1. `endpoint` is a name in ENDPOINTS."""

    permission_classes = [MayWrite]
    parser_classes = [RawBodyParser]
    endpoint = ""

    def ingest(self, request: Request, device_id: str) -> Response:
        endpoint = ENDPOINTS[self.endpoint]
        if device_id and not caller(request).may_write(device_id):
            raise RequestRejected(NOT_ALLOWED[2], 403)
        body: Any = request.data or b""
        if len(body) > MAX_BODY_SIZE:
            raise body_too_large()
        body = decompress_body(body, request.headers.get("Content-Encoding", ""))
        batch = endpoint.read(body, device_id, caller(request))
        return Response(endpoint.response(accept(batch, caller(request))))


class PointView(_IngestView):
    endpoint = "single"

    @describe_single
    def post(self, request: Request, device_id: str) -> Response:
        return self.ingest(request, device_id)


class BatchView(_IngestView):
    endpoint = "batch"

    @describe_batch
    def post(self, request: Request, device_id: str) -> Response:
        return self.ingest(request, device_id)


class BulkIngestView(_IngestView):
    endpoint = "bulk"

    @describe_bulk
    def post(self, request: Request) -> Response:
        return self.ingest(request, "")


class SnapshotView(_IngestView):
    endpoint = "snapshot"

    @describe_snapshot
    def post(self, request: Request) -> Response:
        return self.ingest(request, "")


class EventsView(_IngestView):
    endpoint = "events"

    @describe_events
    def post(self, request: Request) -> Response:
        return self.ingest(request, "")
