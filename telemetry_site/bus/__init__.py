"""The event bus: sends events to NATS, webhooks and Redis Streams, and processes deletions of other services."""
