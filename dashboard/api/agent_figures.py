"""Operational figures of the agents that collectors of kind `agent_health` watch: internal, never public."""

from typing import Any

from rest_framework import serializers

from ingest.collection.kinds.agent_health import DEFAULT_PATHS
from ingest.collection.models import Collector
from metrics.query.latest import read_latest_points
from rest.caller import Caller
from rest.responses import ResponseSerializer

MAX_AGENTS = 200


class AgentFigures(ResponseSerializer):
    device_id = serializers.CharField(help_text="Device that the collector stores points for.")
    collector_id = serializers.CharField()
    healthy = serializers.BooleanField(allow_null=True, help_text="Whether its endpoint answered; null before it did.")
    last_contact = serializers.DateTimeField(allow_null=True)
    values = serializers.DictField(help_text="Newest values of the last day by metric, such as `cost_cents_24h`.")


def agent_figures(reader: Caller) -> list[dict[str, Any]]:
    """Return the newest figures of at most MAX_AGENTS agents of devices that a caller sees."""
    enabled = Collector.objects.visible_to(reader).filter(kind="agent_health", enabled=True)
    agents = list(
        enabled.order_by("device_id", "pk").only("collector_id", "device_id", "configuration", "metric_prefix")
    )
    agents = agents[:MAX_AGENTS]
    if not agents:
        return []
    names = {agent.pk: agent.configuration.get("paths") or DEFAULT_PATHS for agent in agents}
    metrics = {f"{agent.metric_prefix}{name}" for agent in agents for name in ("agent_health.up", *names[agent.pk])}
    devices = sorted({agent.device_id for agent in agents})
    newest = {
        (point.device_id, point.metric_name): point for point in read_latest_points(devices, sorted(metrics)).points
    }
    return [_figures(agent, names[agent.pk], newest) for agent in agents]


def _figures(agent: Collector, names: Any, newest: dict[tuple[str, str], Any]) -> dict[str, Any]:
    def point(name: str) -> Any:
        return newest.get((agent.device_id, f"{agent.metric_prefix}{name}"))

    up = point("agent_health.up")
    return {
        "device_id": agent.device_id,
        "collector_id": agent.collector_id,
        "healthy": None if up is None else bool(up.value),
        "last_contact": None if up is None else up.timestamp,
        "values": {name: found.value for name in names if (found := point(name)) is not None},
    }
