"""Admin pages: users, devices, metric definitions; read-only: audit, exports, storage."""

from metrics.admin import audit, definitions, devices, exports, storage, users

__all__ = ["audit", "definitions", "devices", "exports", "storage", "users"]
