"""Rules, silences, channels and routes, set up as over the API; alerts and what became of them, looked at."""

from alerts.admin import alerts, channels, routes, rules, silences

__all__ = ["alerts", "channels", "routes", "rules", "silences"]
