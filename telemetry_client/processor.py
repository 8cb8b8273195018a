"""`TelemetryProcessor`: sends events to a site, manages its rules, and runs callbacks and actions on its alerts.

The site stores the events and evaluates the rules. Alerts arrive over the live stream; an alert runs each action of its
rule that is registered in this process.
"""

import atexit
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from telemetry_client.config import TelemetryConfig
from telemetry_client.errors import ClientError, Refused, Unreachable
from telemetry_client.patterns import FailurePattern
from telemetry_client.rules import RULES, AlertRule, delete_rule, save_rule
from telemetry_client.sender import Sender, check_event
from telemetry_client.site import Site, segment
from telemetry_client.streams import LiveStream

logger = logging.getLogger("telemetry_client")
CHANNELS = ("alerts", "dashboard", "definitions")
START_TIMEOUT = 5.0  # seconds for the live stream to start
STOP_TIMEOUT = 10.0  # seconds to send what waits in the buffer
RETRY_PAUSE = 5.0  # seconds, while the site was never reached

Update = dict[str, Any]
Callback = Callable[[Update], object]
Action = Callable[[dict[str, Any]], object]


def describe_alert(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an alert of the site with the field names of the alerting document added."""
    return {
        **data,
        "severity": data.get("level", ""),
        "description": data.get("message") or data.get("description", ""),
        "source": data.get("device_id", ""),
        "timestamp": data.get("triggered_at"),
    }


class TelemetryProcessor:
    """A client of the site of the profile in use, or of `site`."""

    def __init__(self, config: TelemetryConfig | None = None, site: Site | None = None) -> None:
        self.config = config or TelemetryConfig()
        self.site = site or Site.from_profile()
        self._sender = Sender(self.site, self.config)
        self._callbacks: list[Callback] = []
        self._actions: dict[str, Action] = {}
        self._rule_actions: dict[str, list[str]] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._seen_alerts: OrderedDict[str, None] = OrderedDict()
        self._last_event_at = ""
        self._stream: LiveStream | None = None
        self._listener: threading.Thread | None = None
        self._listening = threading.Event()
        self._stopped = threading.Event()
        self._failure: ClientError | None = None
        self.running = False

    def __enter__(self) -> "TelemetryProcessor":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Send the buffered events, and receive alerts. Raises ClientError if the site refuses the API key.

        While the site cannot be reached, events wait in the buffer.
        """
        if self.running:
            return
        self._stopped.clear()
        self._listening.clear()
        self._failure = None
        self._last_event_at = datetime.now(UTC).isoformat()
        self._listener = threading.Thread(target=self._listen, name="telemetry-listener", daemon=True)
        self._listener.start()
        self._listening.wait(START_TIMEOUT)
        if self._failure is not None:
            raise self._failure
        self._sender.start()
        self.running = True
        atexit.register(self.stop)

    def stop(self) -> None:
        """Send what waits in the buffer, for at most 10 seconds, and end the live stream."""
        if not self.running:
            return
        self.running = False
        atexit.unregister(self.stop)
        if left := self._sender.stop(STOP_TIMEOUT):
            logger.error("%d events were not sent", left)
        self._stopped.set()
        if self._stream is not None:
            self._stream.close()
        if self._listener is not None and self._listener is not threading.current_thread():
            self._listener.join(STOP_TIMEOUT)

    def ingest_data(self, data: Mapping[str, Any]) -> None:
        """Add an event `{timestamp, source, type, value, status}` to the buffer. Raises InvalidInput, BufferFull."""
        self._sender.put(check_event(data))

    def add_alert_rule(self, rule: AlertRule) -> str:
        """Create a rule on the site, or change the one of the same `rule_id`; return the ID of the site."""
        saved = save_rule(self.site, rule)
        self._rule_actions[saved["rule_id"]] = list(saved["notification_channels"])
        return str(saved["rule_id"])

    def remove_alert_rule(self, rule_id: str) -> None:
        """Delete a rule by the `rule_id` of its document or by its ID. Raises NothingFound."""
        delete_rule(self.site, rule_id)

    def register_action(self, action_name: str, handler: Action) -> None:
        """Run `handler(alert)` for each new alert of the rules that have this action."""
        self._actions[action_name] = handler

    def subscribe(self, callback: Callback) -> None:
        """Call `callback(update)` with `{"type": "alert" | "dashboard", "data": …}` for each update."""
        self._callbacks.append(callback)

    def unsubscribe(self, callback: Callback) -> None:
        """End the calls of a callback; one that is not subscribed is ignored."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def get_dashboard_data(self) -> dict[str, Any]:
        """Return the summary of the site, and the state of this client."""
        client = {"waiting_events": self._sender.waiting, "sent_events": self._sender.sent,
                  "rejected_events": self._sender.rejected,
                  "buffer_utilization": self._sender.waiting / self.config.buffer_size}  # fmt: skip
        return {**self.site.get("/dashboard"), "client": client}

    def get_alerts(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest alerts first."""
        return [describe_alert(row) for row in self.site.get("/alerts", limit=limit)]

    def get_patterns(self, limit: int = 100) -> list[FailurePattern]:
        """Return the patterns of alerts, the highest confidence first."""
        return [FailurePattern.from_dict(row) for row in self.site.get("/patterns", limit=limit)]

    def _listen(self) -> None:
        while not self._stopped.is_set():
            try:
                with LiveStream(self.site, CHANNELS) as self._stream:
                    while not self._stopped.is_set() and (frame := self._stream.next_frame(1.0) or {}) is not None:
                        self._receive(frame)
            except Unreachable as error:
                logger.warning("no alerts are received: %s", error)
                self._listening.set()
                self._stopped.wait(RETRY_PAUSE)
            except ClientError as error:
                logger.error("no alerts are received: %s", error)
                self._failure = error
                self._listening.set()
                return

    def _receive(self, frame: Mapping[str, Any]) -> None:
        kind = frame.get("type")
        if kind == "subscribed":
            self._listening.set()
        elif kind == "dashboard":
            self._publish({"type": "dashboard", "data": frame["figures"]})
        elif kind == "resync" and frame.get("channel", "alerts") == "alerts":
            self._read_missed_alerts()
        elif kind == "event":
            self._receive_event(frame["event"])

    def _receive_event(self, event: Mapping[str, Any]) -> None:
        if not self._is_new(self._seen, event["id"]):  # events may repeat after an interruption
            return
        self._last_event_at = event["time"]
        kind, data = event["type"], event["data"]
        if kind.startswith("alert.rule."):
            self._rule_actions.pop(data.get("rule_id", ""), None)
        elif kind.startswith("alert.") and not data.get("shadow"):
            alert = describe_alert(data)
            self._publish({"type": "alert", "event": kind, "data": alert})
            if kind == "alert.triggered" and self._is_new(self._seen_alerts, alert["alert_id"]):
                self._run_actions(alert)

    def _read_missed_alerts(self) -> None:
        """Handle the alerts whose events were left out."""
        self._rule_actions.clear()
        logger.warning("events were left out: alerts since %s are read again", self._last_event_at)
        for row in list(self.site.pages("alerts", "alerts", start_time=self._last_event_at or None))[::-1]:
            if not row["shadow"] and not row["retroactive"] and self._is_new(self._seen_alerts, row["alert_id"]):
                alert = describe_alert(row)
                self._publish({"type": "alert", "event": "alert.triggered", "data": alert})
                self._run_actions(alert)

    def _is_new(self, seen: OrderedDict[str, None], name: str) -> bool:
        """Remember a name, of at most `max_history_size`; return whether it was not remembered before."""
        is_new = name not in seen
        seen[name] = None
        if len(seen) > self.config.max_history_size:
            seen.popitem(last=False)
        return is_new

    def _publish(self, update: Update) -> None:
        for callback in tuple(self._callbacks):
            _call(callback, update)

    def _run_actions(self, alert: dict[str, Any]) -> None:
        if self._actions and alert.get("rule_id"):
            for name in self._actions_of(alert["rule_id"]):
                if name in self._actions:
                    _call(self._actions[name], alert)

    def _actions_of(self, rule_id: str) -> list[str]:
        if rule_id not in self._rule_actions:
            try:
                rule = self.site.get(f"{RULES}/{segment(rule_id)}")
            except (Refused, Unreachable) as error:
                logger.warning("the actions of rule %s are unknown: %s", rule_id, error)
                return []
            self._rule_actions[rule_id] = list(rule["notification_channels"])
        return self._rule_actions[rule_id]


def _call(function: Callable[[dict[str, Any]], object], argument: dict[str, Any]) -> None:
    try:
        function(argument)
    except Exception:
        logger.exception("%r failed", function)
