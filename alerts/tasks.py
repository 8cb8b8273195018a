"""Celery tasks of alerting. Each task may be killed at any time or run twice at the same time."""

import time

from celery import shared_task
from django.utils import timezone

from alerts import retention
from alerts.evaluation import late_data
from alerts.history import noise_score
from alerts.patterns import refresh


@shared_task
def judge_late() -> int:
    """Evaluate late and out-of-order points as history. Returns the number of series."""
    return late_data.evaluate_late_ranges(time.time_ns() // 1000)


@shared_task
def find_patterns() -> int:
    """Detect the patterns of the last month's alerts. Returns their number."""
    return refresh.refresh_patterns(timezone.now())


@shared_task
def score_noise() -> int:
    """Update the noise scores of rules, the oldest scores first. Returns the number of rules."""
    return noise_score.score_rules()


@shared_task
def drop_expired() -> int:
    """Delete alerts, deliveries and silences past their retention. Returns the number of deleted alerts."""
    return retention.delete_expired(timezone.now())
