"""Serializers and filters of the rejected inbox in the API, with examples for the OpenAPI document."""

from rest_framework import serializers

from ingest.models import Rejected
from ingest.rejected.listing import SHOWN_POINTS
from ingest.wire.batch import RejectionReason
from metrics.models import NAME_LENGTH
from rest.fields import StrictSerializer
from rest.filters import ChoiceFilter, FilterSet, TextFilter
from rest.responses import ResponseSerializer

MAX_ID = 2**63 - 1


class RejectedRowSerializer(serializers.ModelSerializer[Rejected]):
    kept = serializers.IntegerField(help_text="Number of points that can be replayed.")

    class Meta:
        model = Rejected
        fields = (
            "id", "sender", "device_id", "metric_name", "reason", "detail", "count", "kept", "first_at", "last_at",
        )  # fmt: skip


class RejectedPointSerializer(ResponseSerializer):
    timestamp = serializers.DateTimeField()
    value = serializers.JSONField()
    unit = serializers.CharField(allow_null=True)
    tags = serializers.DictField()
    metadata = serializers.DictField()


class RejectedRowWithPointsSerializer(RejectedRowSerializer):
    points = RejectedPointSerializer(many=True, help_text=f"The newest points, at most {SHOWN_POINTS}.")

    class Meta(RejectedRowSerializer.Meta):
        fields = (*RejectedRowSerializer.Meta.fields, "points")  # type: ignore[assignment]


class ReplayErrorSerializer(ResponseSerializer):
    device_id = serializers.CharField()
    metric_name = serializers.CharField()
    reason = serializers.CharField()
    detail = serializers.CharField()
    count = serializers.IntegerField()


class ReplayedSerializer(ResponseSerializer):
    replayed = serializers.IntegerField(help_text="Number of points that were stored and removed from the inbox.")
    still_rejected = serializers.IntegerField()
    errors = ReplayErrorSerializer(many=True)  # type: ignore[assignment]
    next = serializers.IntegerField(
        allow_null=True, help_text="If rows are left: the value of `after` for the next call, else null."
    )


class RejectedFilters(FilterSet):
    device_id = TextFilter(max_length=NAME_LENGTH, trim_whitespace=False, help_text="Only rows of this device.")
    metric_name = TextFilter(max_length=NAME_LENGTH, trim_whitespace=False, help_text="Only rows of this metric.")
    reason = ChoiceFilter(
        choices=[(reason.value, reason.label) for reason in RejectionReason], help_text="Only rows with this reason."
    )
    sender = TextFilter(
        max_length=NAME_LENGTH, trim_whitespace=False, help_text="Only rows of this sender, as a row names it."
    )


class ReplayParameters(StrictSerializer):
    """The rows to replay: all visible rows, or those of a device, of a metric, or after a row."""

    device_id = serializers.CharField(max_length=NAME_LENGTH, trim_whitespace=False, required=False)
    metric_name = serializers.CharField(max_length=NAME_LENGTH, trim_whitespace=False, required=False)
    after = serializers.IntegerField(min_value=0, max_value=MAX_ID, default=0)


ROW = {
    "id": 7,
    "sender": "key:3:gateway north",
    "device_id": "device_001",
    "metric_name": "battery_level",
    "reason": "out_of_bounds",
    "detail": "140 is above the maximum 100 of battery_level",
    "count": 2,
    "kept": 2,
    "first_at": "2025-12-18T10:00:00Z",
    "last_at": "2025-12-18T10:05:00Z",
}
_POINT = {"timestamp": "2025-12-18T10:05:00Z", "value": 140.0, "unit": "percent", "tags": {}, "metadata": {}}
ROW_WITH_POINTS = ROW | {"points": [_POINT]}
ROWS = {"rejected": [ROW], "count": 1, "total": 1, "limit": 100, "offset": 0, "next_cursor": None}
_ERROR = {name: ROW[name] for name in ("device_id", "metric_name", "reason", "detail")} | {"count": 1}
REPLAYED = {"replayed": 1, "still_rejected": 1, "errors": [_ERROR], "next": None}
