"""Failures of the evaluator: stored, so that health checks report them whichever process evaluates."""

import logging
from datetime import timedelta

from django.db import DatabaseError
from django.utils import timezone

from alerts.models import EvaluatorFailure

KEPT_FOR = timedelta(days=1)
MAX_LENGTH = 500  # characters of an error

log = logging.getLogger(__name__)


def record_failure(error: Exception) -> None:
    """Store an error that ended evaluation, and delete those of the day before."""
    try:
        EvaluatorFailure.objects.filter(at__lt=timezone.now() - KEPT_FOR).delete()
        EvaluatorFailure.objects.create(error=f"{type(error).__name__}: {error}"[:MAX_LENGTH])
    except DatabaseError as database_error:
        log.warning("the failure could not be stored: %s", database_error)
