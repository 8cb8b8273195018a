"""What is strange about a series, and what was expected of it: for charts."""

from datetime import UTC, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.history.anomaly_scores import read_anomaly_scores
from rest.openapi import Answer, Tag, operation
from rest.permissions import caller

LOOKED_BACK = timedelta(days=1)


class AnomalyParameters(serializers.Serializer[Any]):
    start_time = serializers.DateTimeField(required=False, default_timezone=UTC, help_text="A day before the end.")
    end_time = serializers.DateTimeField(required=False, default_timezone=UTC, help_text="Now.")


class ExpectedBand(Answer):
    timestamp = serializers.DateTimeField()
    low = serializers.FloatField()
    high = serializers.FloatField()


class AnomalyMark(Answer):
    timestamp = serializers.DateTimeField()
    value = serializers.FloatField()
    score = serializers.FloatField(help_text="0 to 1; from 0.5 on a point is marked.")
    reason = serializers.CharField(help_text="Why.")
    notifies = serializers.BooleanField(help_text="Whether a rule of anomaly would tell of it.")


class Anomalies(Answer):
    points = serializers.IntegerField(help_text="That were judged.")
    band = ExpectedBand(many=True, help_text="What was expected, from each time to the next; at most 500 of them.")
    marks = AnomalyMark(many=True, help_text="Points that are unlike what the series did before.")


class AnomaliesView(APIView):
    @operation(
        "list_anomalies",
        "What is strange about a series",
        tag=Tag.ALERTS,
        description="A stretch of a metric through the detector that rules of anomaly use, which learns from up to 21"
        " days before it: what was expected, and which points are unlike anything before, with the reason.",
        query=AnomalyParameters,
        answer=Anomalies,
        errors=(404, 422),
        asked={"start_time": "2025-12-17T10:00:00Z"},
        answered={
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
        given = AnomalyParameters(data=request.query_params)
        given.is_valid(raise_exception=True)
        end = given.validated_data.get("end_time", timezone.now())
        start = given.validated_data.get("start_time", end - LOOKED_BACK)
        found = read_anomaly_scores(device_id, metric_name, start, end, caller(request))
        return Response(
            {
                "points": found.points,
                "band": [{"timestamp": one.at, "low": one.low, "high": one.high} for one in found.ranges],
                "marks": [
                    {
                        "timestamp": one.at,
                        "value": one.value,
                        "score": one.score,
                        "reason": one.reason,
                        "notifies": one.notifies,
                    }
                    for one in found.anomalies
                ],
            }
        )
