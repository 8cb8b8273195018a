"""`POST /telemetry/collect`: a worker measures its machine now, and the journal knows the snapshot by its id."""

import secrets
from typing import Any

from celery.exceptions import OperationalError
from django.conf import settings
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.tasks import collect_host
from metrics.storage.errors import StorageUnavailable
from rest.caller import Scope
from rest.openapi import Answer, Tag, operation
from rest.permissions import caller

PATIENCE = 60  # seconds that a worker may take to begin; later nobody waits for "now"


class NothingToCollect(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = "this machine's own measurements are left out (TELEMETRY_HOST_COLLECTOR=off)"


class WorkersAway(StorageUnavailable):
    """503: nobody takes the task."""


class Collecting(Answer):
    success = serializers.BooleanField()
    snapshot_id = serializers.CharField(help_text="The `batch_id` of what is collected, in the journal.")
    message = serializers.CharField()


class CollectView(APIView):
    scope_for_changes = Scope.OPERATE

    @operation(
        "collect_now",
        "Measure the site's own machine now",
        tag=Tag.INGESTION,
        description="A worker collects at once what the host collector collects every few seconds. The points are"
        " stored and journalled under `snapshot_id`; asking twice collects twice.",
        answer=Collecting,
        status=202,
        errors=(409,),
        answered={
            "success": True,
            "snapshot_id": "snap_0123456789abcdef0123",
            "message": "a worker collects now",
        },
    )
    def post(self, request: Request) -> Response:
        if not settings.HOST_COLLECTOR:
            raise NothingToCollect
        snapshot_id = f"snap_{secrets.token_hex(10)}"
        given: tuple[Any, ...] = (snapshot_id, caller(request).name)
        try:
            collect_host.apply_async(given, expires=PATIENCE, retry=False)
        except OperationalError as error:
            raise WorkersAway("no worker can be reached to collect; try again") from error
        body = {"success": True, "snapshot_id": snapshot_id, "message": "a worker collects now"}
        return Response(body, status.HTTP_202_ACCEPTED)
