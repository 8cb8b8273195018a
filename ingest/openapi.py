"""What goes in and out of the doors of the site's JSON, for the description of the API: requests are read by
ingest.wire, answers are written by ingest.json_endpoints.
"""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers

from ingest.wire.compression import CODINGS
from ingest.wire.telemetry_json import BATCH_LIMIT
from ingest.wire.validate import LONGEST_NAME, LONGEST_UNIT
from rest.openapi import JSON, Answer, Tag, operation

VALUE = "A number, text, boolean, object or array; null is no measurement."
NAME = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}


@extend_schema_field({"type": ["number", "string", "boolean", "object", "array"], "items": {}})
class ValueField(serializers.JSONField):
    """Whatever can be measured."""


class Point(Answer):
    timestamp = serializers.DateTimeField(help_text="When it was measured: RFC 3339 with its offset.")
    metric_name = serializers.CharField(max_length=LONGEST_NAME)
    value = ValueField(help_text=VALUE)
    unit = serializers.CharField(max_length=LONGEST_UNIT, allow_blank=True, allow_null=True, required=False)
    tags = serializers.DictField(allow_null=True, required=False, help_text="What it can be filtered and grouped by.")
    metadata = serializers.DictField(allow_null=True, required=False, help_text="Anything else, kept as it is.")


_POINTS = {"type": "array", "items": {"$ref": "#/components/schemas/PointRequest"}, "minItems": 1}
_PACKED = {"type": "string", "contentEncoding": "base64", "description": "The array, compressed, as base64."}


@extend_schema_field({"oneOf": [_POINTS | {"maxItems": BATCH_LIMIT}, _PACKED]})
class PointsField(serializers.Field[Any, Any, Any, Any]):
    """Points, or what they are packed in."""


class Batch(Answer):
    data_points = PointsField(help_text="1 to 1,000 points; with `compression` they may come packed.")
    compression = serializers.ChoiceField(
        ["gzip", "zstd", "lz4"], allow_null=True, required=False, help_text="How `data_points` are packed."
    )
    batch_id = serializers.CharField(
        max_length=LONGEST_NAME,
        allow_null=True,
        required=False,
        help_text="A batch of this device with the same id is stored once, and answered as it was the first time.",
    )


class Rejected(Answer):
    device_id = serializers.CharField(required=False, help_text="Where the request has several devices.")
    index = serializers.IntegerField(help_text="Where the point stood in its array.")
    field = serializers.CharField()
    detail = serializers.CharField(help_text="What is wrong, and what is accepted instead.")


class PointReceipt(Answer):
    success = serializers.BooleanField()
    message = serializers.CharField()
    device_id = serializers.CharField()
    metric_name = serializers.CharField()


class BatchReceipt(Answer):
    success = serializers.BooleanField(help_text="Whether any point is stored.")
    ingested_count = serializers.IntegerField()
    failed_count = serializers.IntegerField()
    total_count = serializers.IntegerField()
    errors = Rejected(many=True, help_text="One for each point that is not stored.")  # type: ignore[assignment]


class BulkReceipt(BatchReceipt):
    results = serializers.DictField(child=BatchReceipt(), help_text="The same by device.")


_BULK = {"type": "object", "additionalProperties": _POINTS, "propertyNames": NAME, "minProperties": 1}
_PACKING = OpenApiParameter(
    "Content-Encoding", location="header", enum=list(CODINGS), description="How the body is compressed, if it is."
)
_POINT = {"timestamp": "2025-12-18T10:00:00Z", "metric_name": "temperature", "value": 25.5}
_RECEIPT: dict[str, Any] = {"success": True, "ingested_count": 2, "failed_count": 0, "total_count": 2, "errors": []}
_ONE = _RECEIPT | {"ingested_count": 1, "total_count": 1}

describe_single = operation(
    "ingest_point",
    "Store one measurement of a device",
    tag=Tag.INGESTION,
    description="Answered when it is on disk. The same time of the same metric once more replaces what was there.",
    request={JSON: Point},
    answer=PointReceipt,
    parameters=[_PACKING],
    errors=(404, 422),
    asked=_POINT | {"unit": "celsius", "tags": {"location": "room_1"}},
    answered={
        "success": True,
        "message": "Data point ingested successfully",
        "device_id": "device_001",
        "metric_name": "temperature",
    },
)
describe_batch = operation(
    "ingest_batch",
    "Store up to 1,000 measurements of a device",
    tag=Tag.INGESTION,
    description="Every point that cannot be kept is named in `errors`, and the others are stored. Where none can be"
    " kept the answer is 422.",
    request={JSON: Batch},
    answer=BatchReceipt,
    parameters=[_PACKING],
    errors=(404, 422),
    asked={
        "data_points": [_POINT, _POINT | {"metric_name": "humidity", "value": 60}],
        "compression": None,
        "batch_id": "batch_001",
    },
    answered=_RECEIPT,
)
describe_bulk = operation(
    "ingest_bulk",
    "Store measurements of many devices",
    tag=Tag.INGESTION,
    description="At most 50,000 points. Each device is answered for itself in `results`: some may fail while others"
    " are stored.",
    request={JSON: _BULK},
    answer=BulkReceipt,
    parameters=[_PACKING],
    errors=(422,),
    asked={
        "device_001": [_POINT | {"metric_name": "temp", "value": 25}],
        "device_002": [_POINT | {"metric_name": "temp", "value": 26}],
    },
    answered=_RECEIPT | {"results": {"device_001": _ONE, "device_002": _ONE}},
)
_MEASURED = {"description": VALUE}
_SNAPSHOT = {
    "type": "object",
    "required": ["node_id", "timestamp"],
    "properties": {
        "node_id": NAME | {"description": "The device."},
        "timestamp": {"type": "string", "format": "date-time"},
        "metrics": {"type": "object", "description": "Nested: the names of a path are joined by dots."},
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
        "status": {"description": "Becomes the tag `status` of the point."},
    },
    "additionalProperties": {"description": "Goes into the point's metadata."},
}
_EVENTS = {"oneOf": [_EVENT, {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": BATCH_LIMIT}]}
describe_snapshot = operation(
    "ingest_snapshot",
    "Store what a host measured at one moment",
    tag=Tag.INGESTION,
    description="The edge agent's snapshot, flat or nested (`metrics`): each value is a point of the device `node_id`."
    " Answers under `/api/telemetry/snapshot` too.",
    request={JSON: _SNAPSHOT},
    answer=BatchReceipt,
    parameters=[_PACKING],
    errors=(422,),
    asked={
        "node_id": "192.168.100.27",
        "timestamp": "2025-12-17T10:00:00Z",
        "cpu_percent": 45.2,
        "memory_percent": 67.8,
    },
    answered=_RECEIPT,
)
describe_events = operation(
    "ingest_events",
    "Store events of sources",
    tag=Tag.INGESTION,
    description="One event or a list of up to 1,000: `source` is the device, `type` the metric, `status` a tag.",
    request={JSON: _EVENTS},
    answer=BatchReceipt,
    parameters=[_PACKING],
    errors=(422,),
    asked={"timestamp": 1766051000.5, "source": "sensor_001", "type": "temperature", "value": 75.0, "status": "OK"},
    answered=_ONE,
)
