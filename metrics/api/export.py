"""Exports of points: streamed at once, or written to a file in the background."""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.fields import split_names
from metrics.api.parameters import ExportJobParameters, ExportParameters, device_names
from metrics.api.responses import ExportJobSerializer
from metrics.export import job_files, jobs
from metrics.export.byte_stream import ByteStream
from metrics.export.file_content import file_name, generate_file
from metrics.export.formats import FORMATS, export_format
from metrics.models import ExportJob, ExportStatus
from rest.csv_text import DELIMITERS
from rest.filters import BooleanFilter, FilterSet
from rest.idempotency import idempotent
from rest.openapi import Tag, operation
from rest.pagination import PageQuerySerializer
from rest.permissions import caller
from rest.resources import Action, Conflict, Resource, describe
from rest.responses import page_example

CSV_TEXTS = (
    "In CSV a text has a `'` in front if a spreadsheet would evaluate it as a formula, if it begins or ends with a"
    " blank, or if it is a value that looks like something else: a number, a boolean, JSON, a word such as `NULL`, or"
    " the empty text. So the text `5` is `'5` and the number is `5`; a text `'5` is `''5`. `manage.py load` removes it"
    " and stores the same points again. `bom`, `delimiter` and `decimal` write CSV for Excel."
)
MEDIA_TYPES = [form.media_type.partition(";")[0] for form in FORMATS.values()]


class ExportView(APIView):
    """PRD E7-US1: the points of devices and metrics in a time range, streamed as a file."""

    http_method_names = ["get", "options"]  # a HEAD would read as much as the file

    def requested_devices(self, request: Request) -> list[str | None]:
        parameters = request.query_params.getlist("device_ids")
        return [name for names in parameters for name in split_names(names)] or [None]

    @operation(
        "export_csv",
        "Export points as a file",
        tag=Tag.EXPORT,
        description="Streams any number of points as CSV, JSON lines or Parquet. An interrupted download is incomplete"
        " and has to be repeated; an export in the background can be downloaded again. Points of damaged blocks are"
        ' left out; the file then ends with a row that begins with `# incomplete:` (CSV), a line `{"incomplete": […]}`'
        " (JSON lines) or has the metadata `incomplete` (Parquet).\n\n" + CSV_TEXTS,
        query=ExportParameters,
        response=OpenApiTypes.STR,
        media_types=MEDIA_TYPES,
        errors=(404, 422),
        request_example=examples.EXPORT,
        response_example=examples.CSV,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        parameters = ExportParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        query, format_name = parameters.to_query(caller(request)), parameters.validated_data["format"]
        query.validate()
        file_format = export_format(format_name, parameters.dialect())
        stream = ByteStream(lambda: generate_file(query, file_format))
        if not stream.wait_for_first_piece():
            raise NotFound("no data for these devices and metrics in this time range")
        return file_response(stream, file_name(query, format_name), file_format.media_type)


class ExportFilters(FilterSet):
    own = BooleanFilter(
        default=False, method="filter_own", help_text="For admins: only exports that the caller ordered."
    )

    def filter_own(self, queryset: QuerySet[ExportJob], _: str, own: bool) -> QuerySet[ExportJob]:
        return jobs.visible_jobs(caller(self.request), own=own)


class ExportQuerySerializer(PageQuerySerializer):
    limit = serializers.IntegerField(min_value=1, max_value=200, default=50, help_text="Maximum number of exports.")


@describe(
    Tag.EXPORT,
    list=Action(
        "list_exports",
        "List exports",
        "Returns a page of the exports that the caller ordered, newest first. Admins see the exports of all callers.",
        request={"limit": 50},
        response=page_example("jobs", examples.EXPORT_JOB, limit=50),
    ),
    retrieve=Action(
        "get_export",
        "Get the progress of an export",
        "`progress` goes from 0 to 1. The file can be downloaded once the status is `done`.",
        response=examples.EXPORT_JOB,
    ),
)
class ExportJobResource(Resource):
    """Exports in the background; a caller sees its own, an admin all."""

    serializer_class = ExportJobSerializer
    filterset_class = ExportFilters
    query_class = ExportQuerySerializer
    lookup_field = "export_id"
    rows_field = "jobs"
    page_name = "ExportJobs"
    has_etag = False
    write_scope = None  # ordering an export needs the same access as a query

    def requested_devices(self, request: Request) -> list[str | None]:
        """Return the devices of a new export; those of an existing one are checked by the download."""
        if self.action != "create" or not isinstance(request.data, dict):
            return []
        devices = request.data.get("device_ids")
        return device_names(split_names(devices) if isinstance(devices, str) else devices)

    def get_queryset(self) -> QuerySet[ExportJob]:
        return jobs.visible_jobs(self.caller)

    def represent(self, rows: Sequence[ExportJob], query: PageQuerySerializer | None = None) -> Any:
        return [serialize_job(job) for job in rows]

    @operation(
        "order_export",
        "Order an export",
        tag=Tag.EXPORT,
        description="Creates the file in the background. It can be downloaded for 24 hours after it is done.",
        request=ExportJobParameters,
        response=ExportJobSerializer,
        status=202,
        errors=(422,),
        request_example=examples.EXPORT | {"format": "parquet"},
        response_example=examples.EXPORT_JOB | examples.QUEUED_JOB,
    )
    @idempotent
    def create(self, request: Request) -> Response:
        parameters = ExportJobParameters(data=request.data)
        self.validate(parameters)
        query, format_name = parameters.to_query(self.caller), parameters.validated_data["format"]
        job = jobs.create_job(self.caller.name, query, format_name, parameters.dialect())
        return self.respond(job, status.HTTP_202_ACCEPTED)

    @operation(
        "cancel_export",
        "Cancel an export",
        tag=Tag.EXPORT,
        description="Deletes what was written of the file. Cancelling an export twice is not an error.",
        response=ExportJobSerializer,
        errors=(404, 409),
        response_example=examples.EXPORT_JOB | {"status": "cancelled", "progress": 0.4, "bytes": 0},
    )
    @idempotent
    def cancel(self, request: Request, export_id: str) -> Response:
        job = self.get_object()
        if not jobs.cancel_job(job) and job.status != ExportStatus.CANCELLED:
            raise Conflict(f"the export is {job.status}: only a queued or running export can be cancelled")
        return self.respond(job)

    @operation(
        "download_export",
        "Download an export",
        tag=Tag.EXPORT,
        description="Returns the file in the format of the order, once the status is `done`. 410 if the file no longer"
        " exists, or if it contains a device that the caller no longer sees.",
        response=OpenApiTypes.STR,
        media_types=MEDIA_TYPES,
        errors=(404, 409, 410),
        response_example=examples.CSV,
    )
    def download(self, request: Request, export_id: str) -> StreamingHttpResponse:
        job = self.get_object()
        if job.status != ExportStatus.DONE:
            raise Conflict(f"the export is {job.status}: only an export with status done can be downloaded")
        jobs.check_visible(job, self.caller)
        stream = ByteStream(lambda: job_files.read_files(job.files))
        stream.wait_for_first_piece()
        response = file_response(stream, file_name(jobs.query_of(job), job.format), FORMATS[job.format].media_type)
        response.headers["Content-Length"] = str(job.bytes)
        return response


def serialize_job(job: ExportJob) -> dict[str, Any]:
    question, dialect = job.question, jobs.dialect_of(job)
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
        "bom": dialect.bom,
        "delimiter": next(name for name, sign in DELIMITERS.items() if sign == dialect.delimiter),
        "decimal": dialect.decimal,
        "device_ids": question["devices"],
        "metric_names": question["metrics"],
        "start_time": question["start"],
        "end_time": question["end"],
        **{name: question[name] for name in ("aggregation", "interval", "fill", "timezone", "group_by")},
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "expires_at": job.expires_at,
    }


def file_response(stream: ByteStream, name: str, media_type: str) -> StreamingHttpResponse:
    """Return a response that streams a file for download."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Accel-Buffering": "no",  # a proxy must not buffer the whole file
    }
    return StreamingHttpResponse(stream, content_type=media_type, headers=headers)
