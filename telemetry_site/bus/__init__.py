"""The event bus: events go to NATS, webhooks and Redis Streams; deletions come in from other services."""
