"""Admin of the models of this app."""

from dashboard.status_page import admin

__all__ = ["admin"]
