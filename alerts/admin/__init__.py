"""Admin of rules, silences, channels and routes with the validation of the API; alerts and deliveries are read-only."""

from alerts.admin import alerts, channels, feedback, routes, rules, silences

__all__ = ["alerts", "channels", "feedback", "routes", "rules", "silences"]
