"""The targets that the settings name."""

from collections.abc import Sequence

from django.conf import settings

from telemetry_site.bus.targets.nats_target import NatsTarget
from telemetry_site.bus.targets.redis_target import RedisTarget
from telemetry_site.bus.targets.target import Target
from telemetry_site.bus.targets.webhook_target import WebhookTarget


def configured_targets() -> Sequence[Target]:
    """Return a new object for every configured target."""
    targets: list[Target] = []
    if settings.NATS_URL:
        targets.append(NatsTarget(settings.NATS_URL, settings.NATS_PREFIX, settings.NATS_MONITORING_URL))
    targets += [WebhookTarget(webhook) for webhook in settings.EVENT_WEBHOOKS]
    if settings.EVENT_REDIS_STREAM:
        targets.append(RedisTarget(settings.REDIS_URL, settings.EVENT_REDIS_STREAM))
    return targets
