"""Exports by HTTP: thin views over metrics.export."""

from typing import Any

from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.answers import ExportJobAnswer, ExportJobs
from metrics.api.parameters import ExportJobParameters, ExportPage, ExportParameters
from metrics.export import job_files, jobs
from metrics.export.byte_stream import ByteStream
from metrics.export.file_content import file_name, generate_file
from metrics.export.formats import FORMATS
from metrics.models import ExportJob, ExportStatus
from rest.idempotency import idempotent
from rest.openapi import Tag, operation
from rest.pagination import page
from rest.permissions import caller

MEDIA_TYPES = [form.media_type.partition(";")[0] for form in FORMATS.values()]


class ExportView(APIView):
    """PRD E7-US1: the points of devices × metrics × a range as a file, while they are read."""

    http_method_names = ["get", "options"]  # no HEAD, which would cost as much as the file

    def devices_asked(self, request: Request) -> list[str | None]:
        """What whoever asks must be allowed to read (ingest.authentication.MayRead)."""
        return [name for given in request.query_params.getlist("device_ids") for name in given.split(",")] or [None]

    @operation(
        "export_csv",
        "Everything that a query would answer, as a file",
        tag=Tag.EXPORT,
        description="Streamed while it is read, without a limit; `format` chooses between CSV, JSON lines and Parquet."
        " What breaks off before its end was cut short: an export in the background can be fetched again.",
        query=ExportParameters,
        answer=OpenApiTypes.STR,
        media_types=MEDIA_TYPES,
        errors=(404, 422),
        asked=examples.EXPORT,
        answered=examples.CSV,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        given = ExportParameters(data=request.query_params)
        given.is_valid(raise_exception=True)
        query, format_name = given.to_query(caller(request)), given.validated_data["format"]
        query.validate()
        stream = ByteStream(lambda: generate_file(query, format_name))
        if not stream.wait_for_first_piece():
            raise NotFound("these devices and metrics have no data in this range")
        return download(stream, file_name(query, format_name), FORMATS[format_name].media_type)


class ExportJobsView(APIView):
    """Exports in the background: order one, list one's own (an admin: everybody's), newest first."""

    def devices_asked(self, request: Request) -> list[str | None]:
        if request.method != "POST" or not isinstance(request.data, dict):
            return []
        devices = request.data.get("device_ids")
        devices = devices.split(",") if isinstance(devices, str) else devices
        named = isinstance(devices, list) and all(isinstance(device, str) for device in devices)
        return list(devices) if named and devices else [None]

    @operation(
        "order_export",
        "Have an export made in the background",
        tag=Tag.EXPORT,
        description="The file can be fetched for 24 hours from when it is done.",
        request=ExportJobParameters,
        answer=ExportJobAnswer,
        status=202,
        errors=(422,),
        asked=examples.EXPORT | {"format": "parquet"},
        answered=examples.EXPORT_JOB | examples.ORDERED,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        given = ExportJobParameters(data=request.data)
        given.is_valid(raise_exception=True)
        query = given.to_query(caller(request))
        job = jobs.create_job(caller(request).name, query, given.validated_data["format"])
        return Response(job_shape(job), status.HTTP_202_ACCEPTED)

    @operation(
        "list_exports",
        "One's exports, newest first",
        tag=Tag.EXPORT,
        description="An admin sees everybody's, or with `own` those of his own alone.",
        query=ExportPage,
        answer=ExportJobs,
        asked={"limit": 50},
        answered={"jobs": [examples.EXPORT_JOB], **examples.PAGE, "limit": 50},
    )
    def get(self, request: Request) -> Response:
        given = ExportPage(data=request.query_params)
        given.is_valid(raise_exception=True)
        found = jobs.visible_jobs(caller(request), own=given.validated_data["own"])
        rows, told = page(request, found, ExportPage)
        return Response({"jobs": [job_shape(job) for job in rows], **told})


class _OneJobView(APIView):
    def devices_asked(self, request: Request) -> list[str | None]:
        """None: whoever may read the devices of an export was decided when it was ordered."""
        return []

    def job(self, request: Request, export_id: str) -> ExportJob:
        return get_object_or_404(jobs.visible_jobs(caller(request)), export_id=export_id.replace("\0", ""))


class ExportJobView(_OneJobView):
    @operation(
        "get_export",
        "How far an export is",
        tag=Tag.EXPORT,
        description="`progress` goes from 0 to 1; `status` says when it can be fetched.",
        answer=ExportJobAnswer,
        errors=(404,),
        answered=examples.EXPORT_JOB,
    )
    def get(self, request: Request, export_id: str) -> Response:
        return Response(job_shape(self.job(request, export_id)))


class ExportCancelView(_OneJobView):
    @operation(
        "cancel_export",
        "Make an export no more",
        tag=Tag.EXPORT,
        description="What was written of it is dropped. One that is cancelled already stays so.",
        answer=ExportJobAnswer,
        errors=(404, 409),
        answered=examples.EXPORT_JOB | {"status": "cancelled", "progress": 0.4, "bytes": 0},
    )
    @idempotent
    def post(self, request: Request, export_id: str) -> Response:
        job = self.job(request, export_id)
        if not jobs.cancel_job(job) and job.status != ExportStatus.CANCELLED:
            raise Conflict(f"the export is {job.status}: there is nothing to cancel")
        return Response(job_shape(job))


class ExportDownloadView(_OneJobView):
    http_method_names = ["get", "options"]

    @operation(
        "download_export",
        "The file of an export",
        tag=Tag.EXPORT,
        description="In the format that it was ordered in, once its status is `done`.",
        answer=OpenApiTypes.STR,
        media_types=MEDIA_TYPES,
        errors=(404, 409, 410),
        answered=examples.CSV,
    )
    def get(self, request: Request, export_id: str) -> StreamingHttpResponse:
        job = self.job(request, export_id)
        if job.status != ExportStatus.DONE:
            raise Conflict(f"the export is {job.status}: there is nothing to fetch")
        stream = ByteStream(lambda: job_files.read_files(job.files))
        stream.wait_for_first_piece()
        answer = download(stream, file_name(jobs.query_of(job), job.format), FORMATS[job.format].media_type)
        answer.headers["Content-Length"] = str(job.bytes)
        return answer


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT


def job_shape(job: ExportJob) -> dict[str, Any]:
    asked = job.question
    return {
        "id": job.export_id,
        "status": job.status,
        "progress": job.progress,
        "rows": job.rows,
        "bytes": job.bytes,
        "detail": job.detail,
        "incomplete": job.incomplete,
        "owner": job.owner,
        "format": job.format,
        "device_ids": asked["devices"],
        "metric_names": asked["metrics"],
        "start_time": asked["start"],
        "end_time": asked["end"],
        **{name: asked[name] for name in ("aggregation", "interval", "fill", "timezone", "group_by")},
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "expires_at": job.expires_at,
    }


def download(stream: ByteStream, name: str, media_type: str) -> StreamingHttpResponse:
    """A file to be kept, sent while it is made."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Accel-Buffering": "no",  # a proxy that gathers the whole would need the room
    }
    return StreamingHttpResponse(stream, content_type=media_type, headers=headers)
