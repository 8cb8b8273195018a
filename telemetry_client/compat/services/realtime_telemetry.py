"""The module name of the alerting document, so that its programs run unchanged with this folder in PYTHONPATH."""

from telemetry_client.config import TelemetryConfig
from telemetry_client.patterns import FailurePattern
from telemetry_client.processor import TelemetryProcessor
from telemetry_client.rules import AlertRule
from telemetry_client.server import RealtimeTelemetryServer

__all__ = ["AlertRule", "FailurePattern", "RealtimeTelemetryServer", "TelemetryConfig", "TelemetryProcessor"]
