"""Models of rules, alerts, silences and notifications, and the state of evaluation."""

from alerts.models.alerts import OPEN_STATUSES, Alert, AlertEvent, EventKind, Incident, Resolution, Status
from alerts.models.evaluation import (
    Cursor,
    DetectorState,
    EvaluatorFailure,
    EvaluatorReport,
    LateRange,
    NoiseScore,
    Pattern,
)
from alerts.models.feedback import AnomalyFeedback
from alerts.models.notifications import (
    Channel,
    ChannelKind,
    Delivery,
    DeliveryStatus,
    Notice,
    NoticeKind,
    NoticeStatus,
    Route,
)
from alerts.models.rules import LEVEL_RANKS, Condition, Level, Mode, Rule, RuleGeneration, RuleKind, RuleVersion
from alerts.models.silences import Silence, SilenceKind

__all__ = [
    "LEVEL_RANKS",
    "OPEN_STATUSES",
    "Alert",
    "AlertEvent",
    "AnomalyFeedback",
    "Channel",
    "ChannelKind",
    "Condition",
    "Cursor",
    "Delivery",
    "DeliveryStatus",
    "DetectorState",
    "EvaluatorFailure",
    "EvaluatorReport",
    "EventKind",
    "Incident",
    "LateRange",
    "Level",
    "Mode",
    "NoiseScore",
    "Notice",
    "NoticeKind",
    "NoticeStatus",
    "Pattern",
    "Resolution",
    "Route",
    "Rule",
    "RuleGeneration",
    "RuleKind",
    "RuleVersion",
    "Silence",
    "SilenceKind",
    "Status",
]
