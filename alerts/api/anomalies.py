"""Anomaly scores and the expected range of a series, for charts."""

from datetime import UTC, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.history.anomaly_scores import MAX_SCORED, read_anomaly_scores
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.responses import ResponseSerializer

DEFAULT_PERIOD = timedelta(days=1)


class AnomalyQuerySerializer(serializers.Serializer[Any]):
    start_time = serializers.DateTimeField(
        required=False, default_timezone=UTC, help_text="Start of the range; one day before the end by default."
    )
    end_time = serializers.DateTimeField(
        required=False, default_timezone=UTC, help_text="End of the range; now by default."
    )


class ExpectedBandSerializer(ResponseSerializer):
    timestamp = serializers.DateTimeField()
    low = serializers.FloatField()
    high = serializers.FloatField()


class AnomalyMarkSerializer(ResponseSerializer):
    timestamp = serializers.DateTimeField()
    value = serializers.FloatField()
    score = serializers.FloatField(help_text="Anomaly score from 0 to 1; points are marked from 0.5.")
    reason = serializers.CharField(help_text="Why the point is anomalous.")
    notifies = serializers.BooleanField(help_text="Whether an anomaly rule would open an alert.")


class AnomaliesSerializer(ResponseSerializer):
    points = serializers.IntegerField(help_text="Number of scored points.")
    band = ExpectedBandSerializer(
        many=True, help_text="Expected range, from each time to the next; at most 500 entries."
    )
    marks = AnomalyMarkSerializer(many=True, help_text="Anomalous points.")


class AnomaliesView(APIView):
    @operation(
        "list_anomalies",
        "List anomalies of a series",
        tag=Tag.ALERTS,
        description="Scores a time range with the detector of anomaly rules, which learns from up to 21 days before it."
        " Returns the expected range, and the anomalous points with the reason. Of more than"
        f" {MAX_SCORED:,} points, those before the range included, the most extreme one of each part of the time is"
        " scored.",
        query=AnomalyQuerySerializer,
        response=AnomaliesSerializer,
        errors=(404, 422),
        request_example={"start_time": "2025-12-17T10:00:00Z"},
        response_example={
            "points": 288,
            "band": [{"timestamp": "2025-12-18T10:00:00Z", "low": 41.5, "high": 58.25}],
            "marks": [
                {
                    "timestamp": "2025-12-18T10:00:00Z",
                    "value": 93.5,
                    "score": 0.94,
                    "reason": "spike: a jump up from the 48 points before",
                    "notifies": True,
                }
            ],
        },
    )
    def get(self, request: Request, device_id: str, metric_name: str) -> Response:
        query = AnomalyQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        end = query.validated_data.get("end_time", timezone.now())
        start = query.validated_data.get("start_time", end - DEFAULT_PERIOD)
        result = read_anomaly_scores(device_id, metric_name, start, end, caller(request))
        band = [{"timestamp": bounds.at, "low": bounds.low, "high": bounds.high} for bounds in result.ranges]
        marks = [
            {
                "timestamp": mark.at,
                "value": mark.value,
                "score": mark.score,
                "reason": mark.reason,
                "notifies": mark.notifies,
            }
            for mark in result.anomalies
        ]
        return Response({"points": result.points, "band": band, "marks": marks})
