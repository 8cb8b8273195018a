"""Celery's way into the verbs of this app. Every task may be run twice at once, and killed at any moment."""

from celery import shared_task

from ingest.identity import service_tokens, tokens


@shared_task
def forget_expired_tokens() -> int:
    """Delete what is remembered of tokens that can be used no more. Returns how many rows."""
    return tokens.forget_expired() + service_tokens.forget_expired()
