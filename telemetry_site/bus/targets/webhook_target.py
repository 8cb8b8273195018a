"""Webhooks: signed HTTP POST requests with up to BATCH CloudEvents each, in order.

They use the signature and the guard against requests to private addresses that notification channels use. A receiver
that answers 400, 413 or 422 gets fewer events at a time, and in the end the one that it refuses is parked. All other
errors are retried, since they are about the receiver and not about an event.
"""

import time
from collections.abc import Sequence

import msgspec

from alerts.notifications.channels.transport import SendFailed
from alerts.notifications.channels.webhook import parse_url, post, sign
from rest.outgoing import ssrf_guard
from telemetry_site.bus.cloud_event import CloudEvent
from telemetry_site.bus.targets.target import Delivery, Stream
from telemetry_site.bus.webhook_settings import EventWebhook

BATCH = 64
CONTENT_TYPE = "application/cloudevents-batch+json"
REFUSED = (400, 413, 422)  # statuses that are about the content


class WebhookTarget:
    """One webhook of the settings. It receives data events only if `types` names them."""

    drops_duplicates_for = float("inf")  # the receiver drops them by id; it cannot tell the newest one

    def __init__(self, webhook: EventWebhook) -> None:
        self.name = f"webhook {webhook.name}"
        self._webhook = webhook
        wants_data = any(pattern.startswith("telemetry.") for pattern in webhook.types)
        self.streams: Sequence[Stream] = (Stream.EVENTS, Stream.DATA) if wants_data else (Stream.EVENTS,)

    def open(self) -> None:
        """Do nothing: each request is a connection of its own."""

    def newest_id(self, stream: Stream) -> str | None:
        return None

    def send(self, stream: Stream, events: Sequence[CloudEvent]) -> Delivery:
        count = 0
        while count < len(events) and not self._webhook.wants(events[count].type):
            count += 1
        batch: list[CloudEvent] = []
        end = count
        while end < len(events) and len(batch) < BATCH:
            if self._webhook.wants(events[end].type):
                batch.append(events[end])
            end += 1
        if not batch:
            return Delivery(end)
        failed = self._post_batch(batch)
        if failed is None:
            return Delivery(end)
        if failed.status not in REFUSED:
            return Delivery(count, str(failed), retry_after=failed.retry_after or 0.0)
        if len(batch) == 1:
            return Delivery(count, refused=f"{failed}: {failed.response}"[:500])
        return self.send(stream, events[: count + max(1, (end - count) // 2)])

    def sync_interval(self) -> str:
        return ""

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    def _post_batch(self, batch: Sequence[CloudEvent]) -> SendFailed | None:
        body = msgspec.json.encode([event.structured() for event in batch])
        headers = {"Content-Type": CONTENT_TYPE, "Idempotency-Key": batch[0].id}
        if self._webhook.secret:
            headers["X-Telemetry-Signature"] = sign(self._webhook.secret, body, int(time.time()))
        try:
            post(parse_url(self._webhook.url), body, headers)
        except SendFailed as failed:
            return failed
        except (ValueError, ssrf_guard.AddressForbidden, ssrf_guard.NameNotResolved) as error:
            return SendFailed(str(error))
        return None
