"""Celery's way into the verbs of this app. Every task may be run twice at once, and killed at any moment."""

import time

from celery import shared_task
from django.utils import timezone

from alerts import retention
from alerts.evaluation import late_data
from alerts.history import noise_score
from alerts.patterns import refresh


@shared_task
def judge_late() -> int:
    """Judge what came too late or out of order as history. Returns how many series were looked at."""
    return late_data.judge_late(time.time_ns() // 1000)


@shared_task
def find_patterns() -> int:
    """Find anew what the alerts of the last month do again and again. Returns how many patterns there are."""
    return refresh.find_all(timezone.now())


@shared_task
def score_noise() -> int:
    """Score anew how much of what rules say is noise, those first that wait longest. Returns how many rules."""
    return noise_score.score_all()


@shared_task
def drop_expired() -> int:
    """Delete alerts, deliveries and silences that are past their time. Returns how many alerts went."""
    return retention.drop_expired(timezone.now())
