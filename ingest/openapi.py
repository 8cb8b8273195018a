"""Requests and responses of the ingestion endpoints in the OpenAPI document.

At run time ingest.wire decodes the requests and ingest.json_endpoints builds the responses.
"""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers

from ingest.wire.compression import CODINGS
from ingest.wire.telemetry_json import MAX_BATCH_POINTS
from ingest.wire.validate import MAX_NAME_LENGTH, MAX_UNIT_LENGTH
from rest.openapi import JSON, Tag, operation
from rest.responses import ResponseSerializer

VALUE = "A number, text, boolean, object or array; null is not accepted."
NAME = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}


@extend_schema_field({"type": ["number", "string", "boolean", "object", "array"], "items": {}})
class ValueField(serializers.JSONField):
    """A value of any JSON type but null."""


class PointSerializer(ResponseSerializer):
    timestamp = serializers.DateTimeField(help_text="Time of the measurement: RFC 3339 with an offset.")
    metric_name = serializers.CharField(max_length=MAX_NAME_LENGTH)
    value = ValueField(help_text=VALUE)
    unit = serializers.CharField(max_length=MAX_UNIT_LENGTH, allow_blank=True, allow_null=True, required=False)
    tags = serializers.DictField(
        allow_null=True, required=False, help_text="Labels by which points can be filtered and grouped."
    )
    metadata = serializers.DictField(allow_null=True, required=False, help_text="Any other data, stored unchanged.")


_POINTS = {"type": "array", "items": {"$ref": "#/components/schemas/PointRequest"}, "minItems": 1}
_PACKED = {"type": "string", "contentEncoding": "base64", "description": "The compressed array as base64."}


@extend_schema_field({"oneOf": [_POINTS | {"maxItems": MAX_BATCH_POINTS}, _PACKED]})
class PointsField(serializers.Field[Any, Any, Any, Any]):
    """An array of points, or a compressed array as base64."""


class BatchSerializer(ResponseSerializer):
    data_points = PointsField(
        help_text="1 to 1,000 points; with `compression` optionally as a compressed array in base64."
    )
    compression = serializers.ChoiceField(
        ["gzip", "zstd", "lz4"], allow_null=True, required=False, help_text="Compression of `data_points`."
    )
    batch_id = serializers.CharField(
        max_length=MAX_NAME_LENGTH,
        allow_null=True,
        required=False,
        help_text="A retry with the same id, device and points is not stored again; the first response is returned."
        " Other points with an id that the device used in the last 7 days are rejected with 409.",
    )


class RejectedSerializer(ResponseSerializer):
    device_id = serializers.CharField(required=False, help_text="The device, if the request has several.")
    index = serializers.IntegerField(help_text="Index of the point in its array.")
    field = serializers.CharField()
    detail = serializers.CharField(help_text="The error and the accepted values.")


class PointReceipt(ResponseSerializer):
    success = serializers.BooleanField()
    message = serializers.CharField()
    device_id = serializers.CharField()
    metric_name = serializers.CharField()


class BatchReceipt(ResponseSerializer):
    success = serializers.BooleanField(help_text="Whether at least one point was stored.")
    ingested_count = serializers.IntegerField()
    failed_count = serializers.IntegerField()
    total_count = serializers.IntegerField()
    errors = RejectedSerializer(many=True, help_text="An error for each point that was not stored.")  # type: ignore[assignment]


class BulkReceipt(BatchReceipt):
    results = serializers.DictField(child=BatchReceipt(), help_text="The result of each device.")


_BULK = {"type": "object", "additionalProperties": _POINTS, "propertyNames": NAME, "minProperties": 1}
_ENCODING = OpenApiParameter(
    "Content-Encoding", location="header", enum=list(CODINGS), description="Compression of the body."
)
_POINT = {"timestamp": "2025-12-18T10:00:00Z", "metric_name": "temperature", "value": 25.5}
_RECEIPT: dict[str, Any] = {"success": True, "ingested_count": 2, "failed_count": 0, "total_count": 2, "errors": []}
_ONE = _RECEIPT | {"ingested_count": 1, "total_count": 1}

describe_single = operation(
    "ingest_point",
    "Store one point of a device",
    tag=Tag.INGESTION,
    any_query=True,
    description="The response is sent after the commit. A point with the same metric and timestamp replaces the earlier"
    " point.",
    request={JSON: PointSerializer},
    response=PointReceipt,
    parameters=[_ENCODING],
    errors=(404, 422),
    request_example=_POINT | {"unit": "celsius", "tags": {"location": "room_1"}},
    response_example={
        "success": True,
        "message": "Data point ingested successfully",
        "device_id": "device_001",
        "metric_name": "temperature",
    },
)
describe_batch = operation(
    "ingest_batch",
    "Store up to 1,000 points of a device",
    tag=Tag.INGESTION,
    any_query=True,
    description="Invalid points are listed in `errors`, and all others are stored. If no point is valid, the response"
    " is 422. If `batch_id` was used for other points of this device, the response is 409 and the points are kept in"
    " the rejected inbox.",
    request={JSON: BatchSerializer},
    response=BatchReceipt,
    parameters=[_ENCODING],
    errors=(404, 409, 422),
    request_example={
        "data_points": [_POINT, _POINT | {"metric_name": "humidity", "value": 60}],
        "compression": None,
        "batch_id": "batch_001",
    },
    response_example=_RECEIPT,
)
describe_bulk = operation(
    "ingest_bulk",
    "Store points of many devices",
    tag=Tag.INGESTION,
    any_query=True,
    description="At most 50,000 points in all. `results` holds the result of each device: some devices may fail while"
    " others are stored.",
    request={JSON: _BULK},
    response=BulkReceipt,
    parameters=[_ENCODING],
    errors=(422,),
    request_example={
        "device_001": [_POINT | {"metric_name": "temp", "value": 25}],
        "device_002": [_POINT | {"metric_name": "temp", "value": 26}],
    },
    response_example=_RECEIPT | {"results": {"device_001": _ONE, "device_002": _ONE}},
)
_MEASURED = {"description": VALUE}
_SNAPSHOT = {
    "type": "object",
    "required": ["node_id", "timestamp"],
    "properties": {
        "node_id": NAME | {"description": "The device."},
        "timestamp": {"type": "string", "format": "date-time"},
        "metrics": {"type": "object", "description": "Nested values; the names of a path are joined by dots."},
    },
    "additionalProperties": _MEASURED,
}
_EVENT = {
    "type": "object",
    "required": ["timestamp", "source", "type", "value"],
    "properties": {
        "timestamp": {
            "oneOf": [{"type": "number"}, {"type": "string", "format": "date-time"}],
            "description": "Seconds since 1970, or RFC 3339.",
        },
        "source": NAME | {"description": "The device."},
        "type": NAME | {"description": "The metric."},
        "value": _MEASURED,
        "status": {"description": "Stored as the tag `status` of the point."},
    },
    "additionalProperties": {"description": "Stored in the metadata of the point."},
}
_EVENTS = {"oneOf": [_EVENT, {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": MAX_BATCH_POINTS}]}
describe_snapshot = operation(
    "ingest_snapshot",
    "Store a snapshot of a host",
    tag=Tag.INGESTION,
    any_query=True,
    description="The edge agent's snapshot, flat or nested (`metrics`): each value is a point of the device `node_id`."
    " Also available at `/api/telemetry/snapshot`.",
    request={JSON: _SNAPSHOT},
    response=BatchReceipt,
    parameters=[_ENCODING],
    errors=(422,),
    request_example={
        "node_id": "192.168.100.27",
        "timestamp": "2025-12-17T10:00:00Z",
        "cpu_percent": 45.2,
        "memory_percent": 67.8,
    },
    response_example=_RECEIPT,
)
describe_events = operation(
    "ingest_events",
    "Store events",
    tag=Tag.INGESTION,
    any_query=True,
    description="One event or an array of up to 1,000: `source` is the device, `type` the metric, `status` a tag.",
    request={JSON: _EVENTS},
    response=BatchReceipt,
    parameters=[_ENCODING],
    errors=(422,),
    request_example={
        "timestamp": 1766051000.5,
        "source": "sensor_001",
        "type": "temperature",
        "value": 75.0,
        "status": "OK",
    },
    response_example=_ONE,
)
