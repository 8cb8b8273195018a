"""System check: the functions that TELEMETRY_ALERT_ACTIONS names can be imported."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register("actions")
def check_actions_importable(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Return an error for each action that cannot be imported."""
    from alerts.notifications.channels.action import import_action  # imports models, which are loaded by now

    errors: list[CheckMessage] = []
    for name, path in settings.ALERT_ACTIONS.items():
        try:
            import_action(path)
        except Exception as error:
            hint = "TELEMETRY_ALERT_ACTIONS names functions as name=package.module.function."
            errors.append(Error(f"action {name}: {error}", hint, id="alerts.E001"))
    return errors
