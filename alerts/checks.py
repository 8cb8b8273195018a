"""A system check: that the functions which the environment names as actions are there."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register("actions")
def actions_are_functions(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Whatever importing somebody else's module raises is told in one line."""
    from alerts.notifications.channels.action import action_at  # models are loaded by now

    found: list[CheckMessage] = []
    for name, path in settings.ALERT_ACTIONS.items():
        try:
            action_at(path)
        except Exception as error:
            hint = "TELEMETRY_ALERT_ACTIONS names functions as name=package.module.function."
            found.append(Error(f"action {name}: {error}", hint, id="alerts.E001"))
    return found
