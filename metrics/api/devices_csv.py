"""Export and import of devices as CSV, at `devices.csv`, because `devices/…` may be the ID of any device."""

from collections.abc import Generator
from dataclasses import asdict
from typing import Any

from django.db import connection
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers
from rest_framework.exceptions import ParseError, PermissionDenied, UnsupportedMediaType
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.csv_parameters import CsvParameters
from metrics.api.export import file_response
from metrics.devices import csv_import_export, csv_table
from metrics.devices.csv_cells import COLUMNS, GROUP_SEPARATOR
from metrics.export.byte_stream import ByteStream
from rest.caller import Caller
from rest.csv_text import CsvDialect
from rest.fields import BooleanField
from rest.idempotency import idempotent
from rest.openapi import Tag, operation
from rest.parsers import JSONParser, TooLarge
from rest.permissions import caller
from rest.responses import ResponseSerializer

CSV = "text/csv"
BODY_LIMIT = 16 * 1024 * 1024  # bytes, as for every request


class CSVParser(BaseParser):
    media_type = CSV

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return _within(stream.read(BODY_LIMIT + 1))


def _within(body: bytes) -> bytes:
    if len(body) > BODY_LIMIT:
        raise TooLarge(f"the file is larger than {BODY_LIMIT} bytes: send it in parts")
    return body


class ImportParameters(serializers.Serializer[Any]):
    dry_run = BooleanField(default=False, help_text="Whether to report the changes without making them.")
    partial = BooleanField(  # type: ignore[assignment]  # a name that DRF uses too
        default=False, help_text="Whether to import the valid rows if others are invalid."
    )


class ImportChangeSerializer(ResponseSerializer):
    line = serializers.IntegerField(help_text="Line of the file; the header is line 1.")
    device_id = serializers.CharField()
    action = serializers.ChoiceField(["create", "update"])
    fields = serializers.ListField(child=serializers.CharField(), help_text="Changed fields.")  # type: ignore[assignment]


class ImportFaultSerializer(ResponseSerializer):
    line = serializers.IntegerField(help_text="Line of the file; the header is line 1.")
    field = serializers.CharField(help_text="Column; empty for an error of the whole line.")
    detail = serializers.CharField(help_text="Error and accepted values.")


class ImportedSerializer(ResponseSerializer):
    created = serializers.IntegerField(help_text="Number of new devices.")
    updated = serializers.IntegerField(help_text="Number of changed devices.")
    unchanged = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Number of invalid rows.")
    dry_run = serializers.BooleanField()
    changes = ImportChangeSerializer(many=True, help_text=f"The first {csv_import_export.MAX_REPORTED_CHANGES}.")
    errors = ImportFaultSerializer(many=True, help_text=f"The first {csv_table.MAX_REPORTED_ERRORS:,}.")  # type: ignore[assignment]


class DevicesCSVView(APIView):
    """Devices as a CSV file."""

    scope_for_changes = "admin"
    parser_classes = (
        CSVParser,
        MultiPartParser,
        JSONParser,
    )  # JSON, so that permissions are checked before the media type

    @operation(
        "export_devices",
        "Export devices as CSV",
        tag=Tag.DEVICES,
        description=f"Returns the devices that the caller sees, sorted by ID, with the columns {', '.join(COLUMNS)}."
        f" Groups are split by {GROUP_SEPARATOR} (in a name it is written `\\{GROUP_SEPARATOR}`), tags and metadata are"
        " JSON objects. Texts that a spreadsheet would evaluate as a formula, and those that begin or end with a blank,"
        " are prefixed with ', which the import removes.",
        query=CsvParameters,
        response=OpenApiTypes.STR,
        media_types=[CSV],
        response_example=examples.DEVICES_CSV,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        parameters = CsvParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        seen = caller(request)
        stream = ByteStream(lambda: _rows(seen, parameters.dialect()))
        stream.wait_for_first_piece()
        return file_response(stream, "devices.csv", f"{CSV}; charset=utf-8")

    @operation(
        "import_devices",
        "Import devices from CSV",
        tag=Tag.DEVICES,
        description="Creates and changes devices. The file has the columns of the export in any order; only `device_id`"
        " is required. The delimiter (comma, semicolon or tab) is detected; unless it is a comma, degrees may have a"
        " decimal comma. Empty rows are ignored. Fields without a column keep their values, empty cells clear them."
        " Send the file as the one file of a form, or as a body of type text/csv. Unless `partial` is set, an invalid"
        " row rejects the whole file. Importing the same file twice changes nothing.",
        query=ImportParameters,
        request={
            "multipart/form-data": {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
                "required": ["file"],
            },
        },
        response=ImportedSerializer,
        errors=(422,),
        request_example={"file": examples.DEVICES_CSV},
        response_example=examples.IMPORTED,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        parameters = ImportParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        if caller(request).groups is not None:
            raise PermissionDenied("importing devices requires access to all devices")
        try:
            table = csv_table.read_table(_body(request))
        except csv_table.UnreadableTable as error:
            raise ParseError(str(error)) from None
        result = csv_import_export.import_devices(
            table, caller(request), parameters.validated_data["partial"], parameters.validated_data["dry_run"]
        )
        return Response(asdict(result))


def _body(request: Request) -> bytes:
    """Return the uploaded file, from a form or from the request body."""
    if request.content_type.partition(";")[0].strip() == CSV:
        body: Any = request.data or b""
        return bytes(body)
    if not request.content_type.startswith("multipart/"):
        raise UnsupportedMediaType(request.content_type)
    files = list(request.FILES.values())
    if len(files) != 1:
        raise serializers.ValidationError({"file": "one file is accepted"})
    return _within(files[0].read(BODY_LIMIT + 1))


def _rows(seen: Caller, dialect: CsvDialect) -> Generator[bytes]:
    try:
        for rows in csv_import_export.export_devices(seen, dialect):
            connection.close()  # a client that reads slowly must not hold it
            yield rows
    finally:
        connection.close()  # of the thread that generates the file, which ends here
