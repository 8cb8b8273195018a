"""What an admin configures of people, devices and metrics, and what is only looked at."""

from metrics.admin import audit, definitions, devices, exports, people, storage

__all__ = ["audit", "definitions", "devices", "exports", "people", "storage"]
